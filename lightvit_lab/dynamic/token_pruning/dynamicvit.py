"""DynamicViT: a small predictor learns which tokens to keep (Rao et al., arXiv 2106.02034).

In train mode no token goes: Gumbel-softmax draws which are kept, and attention is masked, so that
gradients reach the predictor. In eval mode the same number of tokens is kept of every picture, and
the rest is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components import initialise_linear
from ...data import Pictures
from ...errors import LabError, plain_numbers
from ...models.timm_parts import LastPass, PlainAttention, PlainBlock, gather_tokens
from ...runtime.full_precision import full_precision
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, on_device
from ...runtime.wrapped import unwrapped
from ...training import Batch, History, fit, label_loss
from .choosing import Choose


class Predictor(nn.Module):
    """Image tokens (batch, n, dim) -> log-probabilities (batch, n, 2) of keeping and of dropping.

    `kept` (batch, n, 1) is 1 for tokens that no predictor before has dropped, else 0. Half of the
    channels stay the token's own; the other half is the mean over the tokens still kept.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(),
            nn.Linear(dim // 4, 2), nn.LogSoftmax(dim=-1))
        self.apply(initialise_linear)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        own, shared = self.in_conv(tokens).chunk(2, dim=-1)
        count = kept.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (shared * kept).sum(dim=1, keepdim=True) / count
        return self.out_conv(torch.cat([own, mean.expand(-1, own.shape[1], -1)], dim=-1))


class Decisions(LastPass):
    """What the predictors of one model decided in its last forward in train mode.

    `masks`: the tokens kept after each predictor, (batch, n), 0 or 1, with gradients. They keep all
    that the step computed alive, so `model.eval()` forgets them. Copies of a model start without.
    """

    def __init__(self) -> None:
        self.masks: list[Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Decisions:
        return Decisions()


def masked_softmax(scores: Tensor, kept: Tensor, eps: float = 1e-6) -> Tensor:
    """Softmax of scores (batch, heads, n, n) over the keys kept, (batch, 1, 1, n) of 0 and 1.

    Each token attends to itself, kept or not, and gradients reach `kept` also where it is 0. In
    float32; `eps` as published.
    """
    scores, count = scores.float(), scores.shape[-1]
    allowed = kept + (1 - kept) * torch.eye(count, device=scores.device)
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp() * allowed
    return (powers + eps / count) / (powers.sum(dim=-1, keepdim=True) + eps)


class MaskedAttention(PlainAttention):
    """Plain attention; `kept` (batch, 1, 1, tokens) masks it, softly enough to learn from."""

    @full_precision
    def weights(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """(batch, heads, N, N), rows summing to 1; next to nothing at tokens not `kept`."""
        query, key, _ = self.split_heads(tokens)
        if kept is None:
            return self.weigh(query.float(), key.float())
        return masked_softmax((query.float() @ key.float().mT) * self.scale, kept)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        query, key, value = self.split_heads(tokens)
        if kept is None:
            return self.join(self.mix(query, key, value))
        weights = masked_softmax((query @ key.mT) * self.scale, kept)
        return self.join(self.mix_by(weights, value))


class MaskedBlock(PlainBlock):
    """A block behind a predictor: in train mode its attention is masked by the last decision."""

    def __init__(self, block: nn.Module, prefix: int, decisions: Decisions):
        super().__init__(block, MaskedAttention(block.attn), prefix)
        self.decisions = decisions

    def train(self, mode: bool = True) -> MaskedBlock:
        """Train mode, or eval mode, which forgets the decisions of training."""
        if not mode:
            self.decisions.masks = []
        return super().train(mode)

    def forward(self, tokens: Tensor) -> Tensor:
        kept = None
        if self.training:       # tokens in front are always kept
            kept = F.pad(self.decisions.masks[-1], (self.prefix, 0), value=1.0)[:, None, None]
        return self.add_mlp(self.add_attention(tokens, self.attn(self.norm1(tokens), kept)))


class PredictorBlock(MaskedBlock):
    """A block whose predictor first chooses the `count` image tokens to keep, `share` of all."""

    def __init__(self, block: nn.Module, prefix: int, decisions: Decisions, share: float,
                 count: int, is_first: bool):
        super().__init__(block, prefix, decisions)
        self.share, self.count, self.is_first = share, count, is_first
        dim, like = self.attn.proj.out_features, next(block.parameters())
        self.choose, self.predictor = Choose(), Predictor(dim).to(like)

    def forward(self, tokens: Tensor) -> Tensor:
        front, image = tokens[:, :self.prefix], tokens[:, self.prefix:]
        if self.is_first:
            self.decisions.masks = []
        if self.training:
            self._decide(image)
        elif self.count < image.shape[1]:
            scores = self.predictor(image, torch.ones_like(image[..., :1]))[..., 0]
            kept = gather_tokens(image, self.choose(scores, self.count))
            tokens = torch.cat([front, kept], dim=1)
        return super().forward(tokens)

    def _decide(self, image: Tensor) -> None:
        masks = self.decisions.masks
        before = masks[-1] if masks else torch.ones_like(image[..., 0], dtype=torch.float32)
        logits = self.predictor(image, before[..., None].to(image)).float()
        masks.append(F.gumbel_softmax(logits, hard=True)[..., 0] * before)


def predictor_blocks(blocks: nn.Module, ratios: dict[int, float], prefix: int,
                     patches: int) -> dict[int, MaskedBlock]:
    """Blocks to put in place of `blocks`; those of `ratios` (layer -> share kept) choose tokens."""
    decisions, share, replaced = Decisions(), 1.0, {}
    for layer in range(min(ratios), len(blocks)):
        if layer in ratios:
            share *= ratios[layer]
            count = max(1, math.floor(share * patches + 1e-9))
            replaced[layer] = PredictorBlock(blocks[layer], prefix, decisions, share, count,
                                             is_first=layer == min(ratios))
        else:
            replaced[layer] = MaskedBlock(blocks[layer], prefix, decisions)
    return replaced


@plain_numbers
@dataclass
class DynamicViTObjective:
    """The loss of DynamicViT, an objective of `training.fit`; weights as published.

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
        logits, tokens = _logits_and_tokens(model, batch.inputs)
        with on_device(self.teacher, place=batch.inputs.device):     # where `fit` has put it before
            inputs = as_input(self.teacher, batch.inputs)
            teacher_logits, teacher_tokens = _logits_and_tokens(self.teacher, inputs)
        blocks = predictors(model)
        masks, shares = blocks[0].decisions.masks, [block.share for block in blocks]
        ours, theirs = (one.float().log_softmax(-1) for one in (logits, teacher_logits))
        distance = kept_token_loss(tokens, teacher_tokens, masks[-1], blocks[0].prefix)
        terms = {"labels": label_loss(logits, batch),
                 "ratio": self.ratio * ratio_loss(masks, shares),
                 "kl": self.kl * F.kl_div(ours, theirs, reduction="batchmean", log_target=True),
                 "tokens": self.tokens * distance}
        return sum(terms.values()), logits, terms


def ratio_loss(masks: list[Tensor], shares: list[float]) -> Tensor:
    """Mean of (share kept - share wanted)^2 over predictors and pictures; masks (batch, n)."""
    squares = [(mask.mean(dim=1) - share).square() for mask, share in zip(masks, shares)]
    return torch.stack(squares).mean()


def kept_token_loss(tokens: Tensor, wanted: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """Mean square of tokens - wanted (batch, prefix + n, dim), over the tokens kept (batch, n)."""
    distance = (tokens - wanted)[:, prefix:].float().square().mean(dim=-1)
    return (distance * kept).sum() / kept.sum().clamp(min=1)


def predictors(model: nn.Module) -> list[PredictorBlock]:
    """The blocks of `model` that choose by a predictor. Raises LabError if there is none."""
    blocks = [module for module in model.modules() if isinstance(module, PredictorBlock)]
    if not blocks:
        raise LabError(f"fine_tune: {type(model).__name__} has no predictor of tokens to keep; "
                       'give prune_tokens(model, 0.7, layers=(2, 4), method="dynamicvit")')
    return blocks


@plain_numbers
def fine_tune(model: nn.Module, teacher: nn.Module, data: Pictures, ratio: float = 2.0,
              kl: float = 0.5, tokens: float = 0.5, **settings: Any) -> History:
    """Train `model`, of `prune_tokens(teacher, ..., method="dynamicvit")`, in place.

    `teacher` keeps all tokens. `settings` are those of `training.fit`, but for the objective, which
    is `DynamicViTObjective`. Raises LabError for a model without predictors.
    """
    predictors(model)
    return fit(model, data, objective=DynamicViTObjective(teacher, ratio, kl, tokens), **settings)


def _logits_and_tokens(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and all tokens after the last norm."""
    tokens: list[Tensor] = []
    hook = Hook(model.norm, "output", lambda _norm, _inputs, _keywords, out: tokens.append(out))
    with hooked([hook]):
        return model(inputs), tokens[0]
