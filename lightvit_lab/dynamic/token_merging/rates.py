"""How many tokens each block drops and merges, learned by gradients (DiffRate, arXiv 2305.17997).

Two numbers for each block, the tokens that stay after pruning and after merging, are means over
candidates, weighed by a softmax of what is learned. Rounded up they say what goes. Gradients pass
the rounding unchanged, and reach the candidates in two ways: by the cost, and by masks of 0 and 1
in the attention of later blocks, whose gradients go to the probability that a rank stays. Only
these rates learn, the weights do not.

Other than there, the cost counts as a share of the whole model's, so that one weight serves models
of every size, and sizes are the same here as in the model that is really shorter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import plain_numbers, require_range, require_whole
from ...models.timm_parts import LastPass, PlainBlock, gather_tokens, plain_blocks, token_counts
from ...models.transforming import copied
from ...profiling import count
from ...runtime.wrapped import unwrapped
from ...training import Batch, History, fit, label_loss
from ..token_pruning.dynamicvit import masked_softmax
from .diffrate import merge_last, ranked, require_class_token
from .merging import ProportionalAttention

CALLER = "learn_rates"


@dataclass
class Rates:
    """What `learn_rates` found: for `reduce_tokens`, how many tokens each block drops and merges.

    `macs` of the model that does so, by `Costs`; `history` of the search, by `training.fit`.
    """

    pruned: list[int]
    merged: list[int]
    macs: int
    history: History = field(repr=False)


class Rate(nn.Module):
    """How many of `tokens` image tokens stay: learned, of candidates `granularity` tokens apart."""

    def __init__(self, tokens: int, granularity: int = 1):
        super().__init__()
        self.register_buffer("candidates", torch.arange(tokens, 0, -granularity).float())
        self.logits = nn.Parameter(torch.zeros(len(self.candidates)))

    def number(self) -> Tensor:
        """The mean candidate rounded up, (), with the gradient of the mean."""
        mean = (self.candidates * self.logits.softmax(0)).sum()
        # rounding errors of the sum add no token
        return (mean - 1e-3).ceil().detach() + (mean - mean.detach())

    def staying(self) -> Tensor:
        """The probability that each rank stays, (tokens,), the best first."""
        ranks = torch.arange(int(self.candidates[0]), device=self.candidates.device)
        return (self.logits.softmax(0)[:, None] * (self.candidates[:, None] > ranks)).sum(0)

    def mask(self, start: int, stop: int) -> Tensor:
        """(tokens,): 0 for the ranks from `start` to `stop`, else 1; gradients of `staying`."""
        probability = self.staying()
        hard = torch.ones_like(probability)
        hard[start:stop] = 0
        return hard + (probability - probability.detach())


class MaskedPass(LastPass):
    """What blocks hand on in one pass of the search.

    size: (batch, N, 1), patches in each token
    kept: (batch, N), 1 for tokens that are still there, else 0, with gradients
    left: how many image tokens are
    numbers: of each block, those that stay after pruning and after merging, with gradients
    """

    def __init__(self) -> None:
        self.size = self.kept = None
        self.left, self.numbers = 0, []

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedPass:
        return MaskedPass()

    def start(self, tokens: Tensor, prefix: int) -> None:
        """Forget the pass before: all of `tokens` (batch, N, dim) are there, a patch each."""
        self.kept = torch.ones(tokens.shape[:2], device=tokens.device)
        self.size, self.left, self.numbers = self.kept[..., None], tokens.shape[1] - prefix, []


class MaskedRankingAttention(ProportionalAttention):
    """Proportional attention to tokens that are `kept` (batch, N), which may have gradients.

    Also returns the class token's weights, (batch, N), a mean over heads.
    """

    def forward(self, tokens: Tensor, size: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        scores = (query @ key.mT).float() * self.scale + self.mask(size, torch.float32)
        weights = masked_softmax(scores, kept[:, None, None])
        return self.join(self.mix_by(weights, value)), weights[:, :, 0].mean(dim=1)


class RateBlock(PlainBlock):
    """A block that computes all tokens (batch, N, dim), sorted by rank, and masks what would go."""

    def __init__(self, block: nn.Module, prefix: int, passing: MaskedPass, tokens: int,
                 granularity: int, first: bool):
        super().__init__(block, MaskedRankingAttention(block.attn), prefix)
        self.passing, self.first = passing, first
        self.prune, self.merge = Rate(tokens, granularity), Rate(tokens, granularity)

    def forward(self, tokens: Tensor) -> Tensor:
        now = self.passing
        if self.first:
            now.start(tokens, self.prefix)
        mixed, row = self.attn(self.norm1(tokens), now.size, now.kept)
        tokens = self.add_attention(tokens, mixed)
        order = ranked(row.where(now.kept > 0, -1.0), self.prefix)      # what is gone comes last
        tokens, now.size = gather_tokens(tokens, order), gather_tokens(now.size, order)
        now.kept = now.kept.gather(1, order)
        now.numbers.append((self.prune.number(), self.merge.number()))
        after_pruning, after_merging = map(int, now.numbers[-1])
        if after_pruning < now.left:
            self._mask(self.prune, after_pruning)
        if after_merging < now.left:
            tokens = self._merged(tokens, after_merging)
            self._mask(self.merge, after_merging)
        return self.add_mlp(tokens)

    def _mask(self, rate: Rate, stay: int) -> None:
        """Of the image tokens that are left, the first `stay` are left after it."""
        now = self.passing
        now.kept = now.kept * F.pad(rate.mask(stay, now.left), (self.prefix, 0), value=1.0)
        now.left = stay

    def _merged(self, tokens: Tensor, stay: int) -> Tensor:
        """`tokens`, the first `stay` image tokens of which have taken in the others left."""
        now, left, stay = self.passing, self.prefix + self.passing.left, self.prefix + stay
        merged, size, _ = merge_last(tokens[:, :left], now.size[:, :left], left - stay, self.prefix)
        now.size = torch.cat([size, now.size[:, stay:]], dim=1)
        return torch.cat([merged, tokens[:, stay:]], dim=1)


class Costs(NamedTuple):
    """MACs of a ViT, and which of them fall when tokens go: the published formula, for any widths.

    whole: of all tokens
    tokens, prefix: how many enter the first block, and how many of them stand in front
    attention, mlp: of one token, in each block
    pairs: of one pair of tokens, in each block

    Ranking and matching, well under one percent, are left out, as published.
    """

    whole: int
    tokens: int
    prefix: int
    attention: list[int]
    mlp: list[int]
    pairs: list[int]

    def share(self, numbers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What is left of `whole`, with the image tokens that stay after pruning and merging.

        As published, gradients pass the smallest number to both of a block, and not to those of the
        blocks before it.
        """
        before, saved = torch.tensor(float(self.tokens)), 0.0
        for place, pair in enumerate(numbers):
            gone = self.tokens - before
            pairs = self.tokens**2 - before**2
            saved = saved + self.attention[place] * gone + self.pairs[place] * pairs
            least = min(int(before), self.prefix + min(map(int, pair)))
            before = least + sum(number - number.detach() for number in pair)
            saved = saved + self.mlp[place] * (self.tokens - before)
        return 1 - saved / self.whole


def block_costs(model: nn.Module, input_size: tuple[int, int, int]) -> Costs:
    """The costs of `model`, a plain ViT, on one picture of `input_size` (channels, height, width).

    Raises LabError for other models.
    """
    blocks = plain_blocks(CALLER, model)
    attention = [_per_token(block.attn) for block in blocks]
    mlp = [_per_token(block.mlp) for block in blocks]
    pairs = [2 * block.attn.num_heads * block.attn.head_dim for block in blocks]
    whole = count(model, input_size).macs
    return Costs(whole, *token_counts(CALLER, model), attention, mlp, pairs)


@plain_numbers
@dataclass
class RateObjective:
    """The loss of DiffRate, an objective of `training.fit`: labels, and how far off the cost is.

    `weight` times the squared distance of the MACs from `share`, in shares of the whole model's.
    The published weight is 5, for distances in GMACs: for DeiT-Small, of 4.6, about 100 here.
    """

    share: float
    costs: Costs = field(repr=False)
    weight: float = 100.0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        logits = model(batch.inputs)
        share = self.costs.share(unwrapped(model).blocks[0].passing.numbers)
        terms = {"labels": label_loss(logits, batch),
                 "macs": self.weight * (share - self.share).square()}
        return sum(terms.values()), logits, terms


@plain_numbers
def learn_rates(model: nn.Module, data: Pictures, share: float, lr: float = 0.03,
                granularity: int = 1, weight: float = 100.0, whole_blocks: int = 1,
                **settings: Any) -> Rates:
    """Learn how many tokens each block of `model` drops and merges, for `share` of its MACs.

    `model`, the lab's ViT or timm's with a class token, stays as it is. `granularity` is the
    distance between two candidates, in tokens, and `weight` that of the cost (`RateObjective`).
    The first `whole_blocks` drop and merge nothing: one, as in the authors' code. `settings` are
    those of `training.fit`, but for the objective: `steps=` or `epochs=`, and more. Raises LabError
    on a share above 1 or below what the fewest tokens cost, and on other models.
    """
    costs = block_costs(model, tuple(data.inputs[:1].shape[1:]))
    search = rate_model(model, granularity, whole_blocks)
    blocks = list(search.blocks)
    fewest = [(block.prune.candidates[-1],) * 2 for block in blocks]
    least = math.ceil(1e3 * costs.share(fewest).item()) / 1e3
    objective = RateObjective(require_range(CALLER, "share", share, least, 1), costs,
                              require_range(CALLER, "weight", weight, 0))
    history = fit(search, data, lr=lr, objective=objective, **settings)
    numbers = [(block.prune.number().detach(), block.merge.number().detach()) for block in blocks]
    pruned, merged, left = [], [], costs.tokens - costs.prefix
    for after_pruning, after_merging in (map(int, pair) for pair in numbers):
        pruned.append(max(0, left - after_pruning))
        left -= pruned[-1]
        merged.append(max(0, left - after_merging))
        left -= merged[-1]
    return Rates(pruned, merged, round(costs.whole * costs.share(numbers).item()), history)


@torch.inference_mode(False)      # what is made inside of it could never be trained
def rate_model(model: nn.Module, granularity: int = 1, whole_blocks: int = 1) -> nn.Module:
    """A copy of `model` that learns rates, and nothing else. Raises LabError for other models."""
    plain_blocks(CALLER, model)
    require_class_token(CALLER, model)
    tokens, prefix = token_counts(CALLER, model)
    patches = tokens - prefix
    granularity = require_whole(CALLER, "granularity", granularity, 1, patches)
    whole_blocks = require_whole(CALLER, "whole_blocks", whole_blocks, 0, len(model.blocks) - 1)
    search, passing = copied(model).requires_grad_(False), MaskedPass()
    for place, block in enumerate(list(search.blocks)):
        apart = patches if place < whole_blocks else granularity       # one candidate: all
        rated = RateBlock(block, prefix, passing, patches, apart, first=place == 0)
        search.blocks[place] = rated.to(next(block.parameters()).device)
    return search


def _per_token(part: nn.Module) -> int:
    """MACs of a token in the linear layers of `part`."""
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))
