"""DynamicViT: a small predictor learns which tokens to keep (Rao et al., arXiv 2106.02034).

In train mode no token leaves: Gumbel-softmax draws who is kept, and attention is masked, so that
gradients reach the predictor. In eval mode the same number of tokens is kept of every picture, and
the rest is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers
from ...models.timm_parts import PlainAttention, PlainBlock, LastPass, gather_tokens
from ...components import initialise_linear
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, cast, on_device
from ...runtime.full_precision import full_precision
from ...runtime.wrapped import unwrapped
from ...training import Batch, History, fit, label_loss
from .choosing import Choose


class Predictor(nn.Module):
    """Image tokens (batch, n, dim), and who is still kept (batch, n, 1) -> log-probabilities
    (batch, n, 2): keep, drop.

    Half of the channels stay the token's own; of the other half each token sees the mean over those
    still kept.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(),
                                      nn.Linear(dim // 4, 2), nn.LogSoftmax(dim=-1))
        self.apply(initialise_linear)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        own, shared = self.in_conv(tokens).chunk(2, dim=-1)
        shared = (shared * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp(min=1)
        return self.out_conv(torch.cat([own, shared.expand(-1, own.shape[1], -1)], dim=-1))


class Decisions(LastPass):
    """What the predictors of one model decided in its last forward in train mode; its blocks share
    it.

    `masks`: who is kept after each predictor, (batch, n), 0 or 1, with gradients. They keep all
    that the step computed alive, so `model.eval()` forgets them. Copies of a model start without.
    """

    def __init__(self) -> None:
        self.masks: list[Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Decisions:
        return Decisions()

    def keys(self, prefix: int) -> Tensor:
        """The last mask as (batch, 1, 1, prefix + n), tokens in front kept."""
        return F.pad(self.masks[-1], (prefix, 0), value=1.0)[:, None, None]


def masked_softmax(scores: Tensor, kept: Tensor, eps: float = 1e-6) -> Tensor:
    """Softmax of scores (batch, heads, n, n) over the keys kept, (batch, 1, 1, n) of 0 and 1; each
    token sees itself.

    Gradients reach `kept` also where it is 0. In float32; `eps` as published.
    """
    scores, count = scores.float(), scores.shape[-1]
    allowed = kept + (1 - kept) * torch.eye(count, device=scores.device)
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp() * allowed
    return (powers + eps / count) / (powers.sum(dim=-1, keepdim=True) + eps)


class MaskedAttention(PlainAttention):
    """Plain attention; given `kept` (batch, 1, 1, tokens) it is written out, and masked softly
    enough to learn from.
    """

    @full_precision
    def weights(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Where tokens look, (batch, heads, N, N), rows summing to 1; next to nothing at tokens
        that are not `kept`.
        """
        query, key, _ = self.split_heads(tokens)
        if kept is None:
            return self.weigh(query.float(), key.float())
        with cast("float32", tokens.device):
            return masked_softmax((query.float() @ key.float().mT) * self.scale, kept)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        query, key, value = self.split_heads(tokens)
        if kept is None:
            return self.join(self.mix(query, key, value))
        weights = masked_softmax((query @ key.mT) * self.scale, kept)
        return self.join(self.mix_by(weights, value))


class WatchingBlock(PlainBlock):
    """A block behind a predictor: in train mode its attention is masked by the last decision."""

    def __init__(self, block: nn.Module, attention: MaskedAttention, prefix: int,
                 decisions: Decisions):
        super().__init__(block, attention, prefix)
        self.decisions = decisions

    def train(self, mode: bool = True) -> WatchingBlock:
        """Train mode, or eval mode, in which no decision of training is held."""
        if not mode:
            self.decisions.masks = []
        return super().train(mode)

    def forward(self, tokens: Tensor) -> Tensor:
        kept = self.decisions.keys(self.prefix) if self.training else None
        return self.add_mlp(self.add_attention(tokens, self.attn(self.norm1(tokens), kept)))


class PredictingBlock(WatchingBlock):
    """A block that begins with a choice: `count` image tokens stay, the share `share` of all, as
    its predictor says.
    """

    def __init__(self, block: nn.Module, attention: MaskedAttention, prefix: int,
                 decisions: Decisions, share: float, count: int, is_first: bool):
        super().__init__(block, attention, prefix, decisions)
        self.share, self.count, self.is_first = share, count, is_first
        self.choose, self.predictor = Choose(), Predictor(attention.proj.out_features).to(next(block.parameters()))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.is_first:
            self.decisions.masks = []
        if self.training:
            self._decide(tokens[:, self.prefix :])
        elif self.count < tokens.shape[1] - self.prefix:
            image = tokens[:, self.prefix :]
            scores = self.predictor(image, torch.ones_like(image[..., :1]))[..., 0]
            places = self.choose(scores, self.count)
            tokens = torch.cat([tokens[:, : self.prefix], gather_tokens(image, places)], dim=1)
        return super().forward(tokens)

    def _decide(self, image: Tensor) -> None:
        masks = self.decisions.masks
        before = masks[-1] if masks else torch.ones_like(image[..., 0], dtype=torch.float32)
        logits = self.predictor(image, before[..., None].to(image)).float()
        masks.append(F.gumbel_softmax(logits, hard=True)[..., 0] * before)


@plain_numbers
@dataclass
class KeepingObjective:
    """What DynamicViT pays for, an objective of `training.fit`; weights as published.

    The labels; `ratio` times the squared distance of the share kept at each predictor from its
    goal; `kl` times the KL divergence of the logits from the teacher's; `tokens` times the squared
    distance of the tokens kept, after the last norm, from the teacher's, a mean over channels.
    """

    teacher: nn.Module = field(repr=False)
    ratio: float = 2.0
    kl: float = 0.5
    tokens: float = 0.5

    def __post_init__(self) -> None:
        self.teacher = unwrapped(self.teacher)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        logits, features = _seen(model, batch.inputs)
        with on_device(self.teacher, place=batch.inputs.device):     # where `fit` has put it before
            inputs = as_input(self.teacher, batch.inputs)
            wanted_logits, wanted = _seen(self.teacher, inputs)
        blocks = predictors(model)
        masks = blocks[0].decisions.masks
        terms = {"labels": label_loss(logits, batch),
                 "ratio": self.ratio * ratio_loss(masks, [block.share for block in blocks]),
                 "kl": self.kl * F.kl_div(logits.float().log_softmax(-1), wanted_logits.float().log_softmax(-1),
                                          reduction="batchmean", log_target=True),
                 "tokens": self.tokens * kept_token_loss(features, wanted, masks[-1], blocks[0].prefix)}
        return sum(terms.values()), logits, terms


def ratio_loss(masks: list[Tensor], shares: list[float]) -> Tensor:
    """Mean over predictors and pictures of (share kept - share wanted)^2; masks (batch, n) of 0 and
    1.
    """
    return torch.stack([(mask.mean(dim=1) - share).square().mean() for mask, share in zip(masks, shares)]).mean()


def kept_token_loss(tokens: Tensor, wanted: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """Mean over the tokens kept (batch, n) of the mean square of tokens - wanted, (batch, prefix +
    n, dim).
    """
    distance = (tokens - wanted)[:, prefix:].float().square().mean(dim=-1)
    return (distance * kept).sum() / kept.sum().clamp(min=1)


def predictors(model: nn.Module) -> list[PredictingBlock]:
    """The blocks of `model` that choose by a predictor, in order. Raises LabError if there is none."""
    found = [module for module in model.modules() if isinstance(module, PredictingBlock)]
    if not found:
        raise LabError(f"fine_tune: {type(model).__name__} has no predictor of tokens to keep; give what "
                       'prune_tokens(model, 0.7, layers=(2, 4), method="dynamicvit") returns')
    return found


@plain_numbers
def fine_tune(model: nn.Module, teacher: nn.Module, data: Pictures, ratio: float = 2.0,
              kl: float = 0.5, tokens: float = 0.5, **settings: Any) -> History:
    """Train `model`, of `prune_tokens(teacher, ..., method="dynamicvit")`, in place; `teacher`
    keeps all tokens.

    `settings` are those of `training.fit`, but for the objective, which is `KeepingObjective`.
    Raises LabError for a model without predictors.
    """
    predictors(model)
    return fit(model, data, objective=KeepingObjective(teacher, ratio, kl, tokens), **settings)


def _seen(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and all tokens after the last norm."""
    found: list[Tensor] = []

    def record(_norm: nn.Module, _given: tuple, _keywords: dict, tokens: Tensor) -> None:
        found.append(tokens)

    with hooked([Hook(model.norm, "output", record)]):
        return model(inputs), found[0]
