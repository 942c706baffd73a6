"""DiffRate: every block drops the tokens that count least and merges the next (arXiv 2305.17997).

    rates = learn_rates(model, data, share=0.6, epochs=1)           # rates.py
    reduced = reduce_tokens(model, rates.pruned, rates.merged)

Between attention and MLP the image tokens are ranked by the class token's attention. The last of
them go. Those before them are merged, each into the most similar token that stays. As in the
authors' code, the mean counts each token once, and what goes into a token adds its size times the
similarity to the size that counts in proportional attention. Other than there, a similarity below
zero adds nothing (their sizes could fall below zero, and the logarithm has no value there), and a
model in train mode is as short as in eval mode. Weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_whole
from ...models.timm_parts import (PlainBlock, gather_tokens, has_class_token, plain_blocks,
                                  reads_class_token, token_counts)
from ...models.transforming import Plan, transform, transformed
from ..layers import listed, per_layer
from .matching import Matching
from .merging import ProportionalAttention, Trace

CALLER = "reduce_tokens"


class RankingAttention(ProportionalAttention):
    """Proportional attention that also returns the class token's weights, a mean over heads.

    (batch, N, dim) and sizes (batch, N, 1) or None -> (batch, N, dim) and (batch, N).
    """

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        row = self.weigh(query[:, :, :1], key, self.mask(size, torch.float32)).mean(dim=(1, 2))
        return self.join(self.mix(query, key, value, self.mask(size, query.dtype))), row


class ReducingBlock(PlainBlock):
    """A plain block that drops `pruned` tokens, then merges `merged`, between attention and MLP.

    (batch, N, dim) -> (batch, N - pruned - merged, dim): those in front, then the others by rank.
    """

    def __init__(self, block: nn.Module, prefix: int, pruned: int, merged: int, trace: Trace,
                 first: bool):
        ranks = pruned + merged > 0
        attention = RankingAttention if ranks else ProportionalAttention
        super().__init__(block, attention(block.attn), prefix)
        self.pruned, self.merged, self.trace, self.first = pruned, merged, trace, first

    def forward(self, tokens: Tensor) -> Tensor:
        size = self.trace.enter(tokens, self.first)
        mixed, row = self.attn(self.norm1(tokens), size)
        tokens = self.add_attention(tokens, mixed)
        if self.pruned or self.merged:
            tokens = self.reduce(tokens, size, row)
        return self.add_mlp(tokens)

    def reduce(self, tokens: Tensor, size: Tensor | None, row: Tensor) -> Tensor:
        """What stays of `tokens` (batch, N, dim), by the class token's weights `row` (batch, N)."""
        order, left = ranked(row, self.prefix), tokens.shape[1] - self.pruned
        size = torch.ones_like(row)[..., None] if size is None else size
        tokens, size = (gather_tokens(one, order[:, :left]) for one in (tokens, size))
        into = order[:, :0]
        if self.merged:
            tokens, size, into = merge_last(tokens, size, self.merged, self.prefix)
        stay = left - self.merged
        nowhere = F.pad(into, (0, self.pruned), value=-1)       # what is dropped goes into no token
        self.trace.record(Matching(order[:, :stay], order[:, stay:], nowhere), size)
        return tokens


def ranked(row: Tensor, prefix: int) -> Tensor:
    """(batch, N): numbers of the tokens, the first `prefix`, then the others by falling `row`."""
    front = torch.arange(prefix, device=row.device).expand(row.shape[0], -1)
    return torch.cat([front, prefix + row[:, prefix:].argsort(dim=1, descending=True)], dim=1)


def merge_last(tokens: Tensor, size: Tensor, r: int,
               prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the last `r` of N tokens, each into the most similar (cosine) of those before.

    tokens (batch, N, dim) and sizes (batch, N, 1) -> the N - r that stay, their sizes, and which of
    them each has gone into, (batch, r). The first `prefix` take none in.
    """
    stay = tokens.shape[1] - r
    numbers = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[0], -1)
    with torch.no_grad():
        unit = F.normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1)
        similarity = unit[:, stay:] @ unit[:, prefix:stay].mT
        nearest, into = similarity.max(dim=-1)
    matching = Matching(numbers[:, :stay], numbers[:, stay:], prefix + into)
    added = size[:, stay:] * nearest.clamp(min=0)[..., None]
    size = matching.merge_sizes(torch.cat([size[:, :stay], added.to(size)], dim=1))
    return matching.merge(tokens, mode="mean"), size, matching.into


@plain_numbers
def reduce_tokens(model: nn.Module, pruned: int | Sequence[int],
                  merged: int | Sequence[int]) -> nn.Module:
    """A copy of `model`, the lab's ViT or timm's, whose block i drops and merges image tokens.

    After its attention it drops the `pruned[i]` of lowest class attention, then merges the next
    `merged[i]`; one number is for every block. `learn_rates` finds such numbers. The new model
    lists `.tokens_per_block`, what remains after each. Raises LabError on numbers that are negative
    or leave no image token, on lists of another length than there are blocks, on models whose head
    does not read a class token, and on other models.
    """
    plan = {"transform": "reduce_tokens", "pruned": listed(pruned), "merged": listed(merged)}
    return transformed(model, plan, apply_reduction)


@transform("reduce_tokens")
def apply_reduction(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace the blocks of `model` as `plan` says: {"pruned": [0, 8], "merged": [0, 4]}.

    Where every number is 0, no block is replaced.
    """
    blocks = plain_blocks(CALLER, model)
    require_class_token(CALLER, model)
    count, prefix = token_counts(CALLER, model)
    pruned, merged = (_numbers(name, plan.get(name), len(blocks)) for name in ("pruned", "merged"))
    model.tokens_per_block = [count]
    for place, (gone, mixed) in enumerate(zip(pruned, merged)):
        before = model.tokens_per_block[-1]
        if gone + mixed >= before - prefix and gone + mixed > 0:
            raise LabError(f"{CALLER}: block {place} would drop {gone} and merge {mixed} of "
                           f"{before - prefix} image tokens, and one at least has to stay; give "
                           f"pruned[{place}] + merged[{place}] <= {before - prefix - 1}")
        model.tokens_per_block.append(before - gone - mixed)
    del model.tokens_per_block[0]
    if model.tokens_per_block[-1] == count:
        return model
    trace = Trace(count, CALLER)
    for place, block in enumerate(list(blocks)):
        blocks[place] = ReducingBlock(block, prefix, pruned[place], merged[place], trace,
                                      first=place == 0)
    return model


def require_class_token(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, unless the head of `model` reads a class token."""
    if not has_class_token(model) or not reads_class_token(model):
        raise LabError(f"{caller}: tokens are ranked by the class token's attention, and the head "
                       'of this model reads no class token; give one that does, such as '
                       'models.create_model("lab_vit")')


def _numbers(name: str, value: object, depth: int) -> list[int]:
    """One number for each of `depth` blocks. Raises LabError unless they are whole and >= 0."""
    return [require_whole(CALLER, f"{name}[{place}]", one, 0)
            for place, one in enumerate(per_layer(CALLER, name, value, depth))]
