"""Token merging: fewer tokens from block to block, as `chapters/dynamic/token_merging` derives it.

    merged = merge_tokens(model, r=8)                            # ToMe, arXiv 2210.09461
    merged = merge_tokens(model, r=8, schedule="decreasing")     # most in the first blocks
    merged = merge_tokens(model, r=8, mode="tofu")               # prunes, then merges: 2312.01026
    merged = merge_tokens(model, r=8, matching="clusters")       # after TCFormer, arXiv 2204.08680

Nothing is trained; `training.fit(merged, data)` wins back what it lost. Every picture of a batch
merges its own tokens, and as many as every other, so batches stay rectangular.

The published form of proportional attention computes softmax(q k^T / sqrt(d) + log size) by hand,
and so gives back much of what merging saves. log size is the same for every query: one row that
torch's fused attention takes as an additive mask.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_choice, require_whole
from ...models.timm_parts import (LastPass, PlainAttention, PlainBlock, gather_tokens, plain_blocks,
                                  reads_class_token, token_counts)
from ...models.transforming import Plan, transform, transformed
from ...profiling import measure
from ...runtime.full_precision import full_precision
from ...runtime.running import home_of
from ..layers import per_layer
from .matching import MATCHINGS, MODES, Matching, max_r

SCHEDULES = ("constant", "decreasing")
CALLER = "merge_tokens"


class Merging(NamedTuple):
    """How one block merges.

    r, protected: how many tokens, of those behind the first `protected`
    mode, matching: one of MODES, one of MATCHINGS
    proportional: whether a merged token draws as much attention as the patches in it
    first: whether a pass starts here
    restore: whether each of the first tokens gets a place of its own again at the end of the block
    """

    r: int
    protected: int
    mode: str
    matching: str
    proportional: bool
    first: bool
    restore: bool


class Trace(LastPass):
    """Sizes and matchings of the last forward pass, which the blocks of one model share.

    Every merge reduces the number of tokens, so within a pass that number identifies their sizes,
    also where blocks were taken out later, or run again for gradients. One pass at a time: no
    threads on one model. Not compiled: what it does depends on numbers that no graph knows.
    """

    def __init__(self, num_tokens: int, caller: str = CALLER):
        self.num_tokens, self.caller = num_tokens, caller
        self.sizes: dict[int, Tensor] = {}
        self.matchings: dict[int, Matching] = {}          # by the number of tokens before

    def __deepcopy__(self, memo: dict) -> Trace:
        return Trace(self.num_tokens, self.caller)

    @torch.compiler.disable
    def enter(self, tokens: Tensor, first: bool) -> Tensor | None:
        """(batch, N, 1): how many patches each of `tokens` stands for; None where each is one.

        `first` forgets the pass before. Raises LabError where tokens or pictures went elsewhere.
        """
        batch, count = tokens.shape[:2]
        if first:
            self.num_tokens, self.sizes, self.matchings = count, {}, {}
        size = self.sizes.get(count)
        if size is None and count != self.num_tokens:
            raise LabError(f"{self.caller}: a block was given {count} tokens, and no block before "
                           "it gave out as many; let nothing else drop tokens between the blocks")
        if size is not None and size.shape[0] != batch:
            raise LabError(f"{self.caller}: a block was given {batch} pictures, the block before "
                           f"gave out {size.shape[0]}; let pictures leave before the first merge")
        return size

    @torch.compiler.disable
    def record(self, matching: Matching, size: Tensor) -> None:
        """Remember a merge and the sizes (batch, M, 1) after it."""
        self.sizes[size.shape[1]], self.matchings[matching.num_tokens] = size, matching

    def places(self) -> Tensor | None:
        """(batch, N): the token that each of the first N became part of, -1 for what was dropped.

        None without a merge.
        """
        places = None
        for before in sorted(self.matchings, reverse=True):
            step = self.matchings[before].places()
            if places is not None:
                ends = F.pad(step, (0, 1), value=-1)            # where what was dropped before goes
                step = ends.gather(1, places.where(places >= 0, step.shape[1]))
            places = step
        return places

    @torch.compiler.disable
    def restore(self, tokens: Tensor) -> Tensor:
        """(batch, M, dim) -> (batch, N, dim), as many as entered the first block."""
        places = self.places()
        return tokens if places is None else gather_tokens(tokens, places)


class ProportionalAttention(PlainAttention):
    """Plain attention in which a token of size s draws as much as s tokens like it.

    (batch, N, dim) and sizes (batch, N, 1) or None -> (batch, N, dim), and the keys' mean over
    heads: the metric.
    """

    @full_precision
    def weights(self, tokens: Tensor, size: Tensor | None = None) -> Tensor:
        """The attention weights (batch, heads, N, N), in float32; rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float(), self.mask(size, torch.float32))

    def mask(self, size: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """log size for every head and query, (batch, 1, 1, N)."""
        return None if size is None else size.log().mT[:, None].to(dtype)

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        mixed = self.mix(query, key, value, self.mask(size, query.dtype))
        # heads last but one, as keys lie in memory: a third of the time
        return self.join(mixed), key.transpose(1, 2).mean(dim=2)


class MergingBlock(PlainBlock):
    """A plain block with a merge between attention and MLP: (batch, N, dim) -> (batch, N - r, dim).

    With `merging.restore`, each of the tokens that entered the first block has its own place again,
    filled with the token that it became part of.
    """

    def __init__(self, block: nn.Module, merging: Merging, trace: Trace):
        super().__init__(block, ProportionalAttention(block.attn), merging.protected)
        self.merging, self.trace = merging, trace

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise LabError("merge_tokens: masks are for pairs of tokens, and tokens merge here; "
                           "call it without")
        how = self.merging
        size = self.trace.enter(tokens, how.first)
        mixed, metric = self.attn(self.norm1(tokens), size if how.proportional else None)
        tokens = self.add_attention(tokens, mixed)
        if how.r:
            matching = MATCHINGS[how.matching](metric, how.r, how.protected)
            tokens = matching.merge(tokens, size, how.mode)
            self.trace.record(matching, matching.merge_sizes(size, grow=how.mode != "prune"))
        tokens = self.add_mlp(tokens)
        return self.trace.restore(tokens) if how.restore else tokens


@plain_numbers
def merge_tokens(model: nn.Module, r: int | Sequence[int], proportional_attention: bool = True, *,
                 schedule: str = "constant", mode: str | Sequence[str] = "weighted",
                 matching: str = "bipartite", restore: bool | None = None,
                 faster_on: Tensor | None = None, budget_s: float = 2.0) -> nn.Module:
    """A copy of `model`, the lab's ViT or timm's, whose blocks merge `r` tokens each, or r[i].

    `proportional_attention`: a merged token draws as much attention as the patches in it.
    `schedule`: "constant", or "decreasing" from 2 r in the first block to 0 in the last. `mode` is
    one of MODES for all blocks or one each, or "tofu": "prune" in the first half, "mlerp" in the
    second. `matching` is "bipartite" or "clusters". `restore` fills all places again after the last
    block, so that means over tokens weigh merged ones by size; None is: where the logits need it.
    With `faster_on` (inputs), both models are timed for `budget_s` seconds, and where merging is
    not surely faster a warning says so and the copy does not merge.

    The new model lists `.r_per_block`, what is really merged (deeper blocks clamp r to half of
    their tokens), and `.tokens_per_block`, what remains after each. Raises LabError on an r that is
    negative, or over half of the tokens that enter the first block that merges, on schedules and
    modes of the wrong length, and on other models.
    """
    depth = len(plain_blocks(CALLER, model))
    restore = not reads_class_token(model) if restore is None else bool(restore)
    plan = {"transform": "merge_tokens", "r": spread_r(r, depth, schedule),
            "mode": _modes(mode, depth), "matching": matching,
            "proportional": bool(proportional_attention), "restore": restore}
    merged = transformed(model, plan, apply_merging)
    if faster_on is None:
        return merged
    return _unless_slower(model, merged, plan, faster_on, budget_s)


@transform("merge_tokens")
def apply_merging(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace the blocks of `model` as `plan` says, one r and one mode per block.

    {"r": [8, 8], "mode": ["weighted", "weighted"], "matching": "bipartite", "proportional": true,
    "restore": false}. Where every r is 0, no block is replaced.
    """
    blocks = plain_blocks(CALLER, model)
    num_tokens, prefix = token_counts(CALLER, model)
    modes = _modes(plan.get("mode"), len(blocks))
    for name, allowed in (("matching", MATCHINGS), ("proportional", (True, False)),
                          ("restore", (True, False))):
        require_choice(CALLER, name, plan.get(name), allowed)
    used = clamped_r(spread_r(plan.get("r"), len(blocks)), num_tokens, prefix)
    model.r_per_block = used
    model.tokens_per_block = [num_tokens - sum(used[:place + 1]) for place in range(len(used))]
    if not any(used):
        return model
    trace, last = Trace(num_tokens), len(used) - 1
    for place, block in enumerate(list(blocks)):
        merging = Merging(used[place], prefix, modes[place], plan["matching"], plan["proportional"],
                          first=place == 0, restore=plan["restore"] and place == last)
        blocks[place] = MergingBlock(block, merging, trace)
    return model


@plain_numbers
def spread_r(r: int | Sequence[int], depth: int, schedule: str = "constant") -> list[int]:
    """r of each of `depth` blocks: as given where `r` is a sequence, else by `schedule`.

    "decreasing" is int(2 r (1 - i / (depth - 1))) in block i: about as many in all, while they save
    the most. Raises LabError on negative numbers, wrong lengths and unknown schedules.
    """
    require_choice(CALLER, "schedule", schedule, SCHEDULES)
    several = isinstance(r, Sequence) and not isinstance(r, str)
    if several and schedule != "constant":
        raise LabError(f"{CALLER}: schedule={schedule!r} and an r for each block; give one or the "
                       'other, such as r=8, schedule="decreasing"')
    every_r = [require_whole(CALLER, f"r[{place}]" if several else "r", value, 0)
               for place, value in enumerate(per_layer(CALLER, "r", r, depth))]
    if schedule == "constant" or depth == 1:
        return every_r
    return [2 * value * (depth - 1 - place) // (depth - 1) for place, value in enumerate(every_r)]


def clamped_r(r_per_block: Sequence[int], num_tokens: int, protected: int) -> list[int]:
    """What each block really merges: deeper blocks clamp r to half of their tokens.

    Raises LabError where the first block that merges would have to merge more than half of the
    `num_tokens` that enter it, of which the first `protected` never merge.
    """
    used: list[int] = []
    for place, r in enumerate(r_per_block):
        limit = max_r(num_tokens - sum(used), protected)
        if r > limit and not any(used):
            raise LabError(f"{CALLER}: r={r} is more than half of the {num_tokens} tokens entering "
                           f"block {place}; give 0 <= r <= {limit}")
        used.append(min(r, limit))
    return used


def source_map(model: nn.Module) -> Tensor:
    """(batch, tokens): which of the last tokens each of the first became part of, in the last pass.

    -1 for those that `reduce_tokens` dropped. On the device of the weights. Where none was,
    `torch.nn.functional.one_hot(source_map(model)).mT` is the published source matrix. Raises
    LabError if nothing was merged.
    """
    found = [getattr(block, "trace", None) for block in model.modules()]
    traces = [trace for trace in found if isinstance(trace, Trace)]
    places = traces[0].places() if traces else None
    if places is None:
        raise LabError("source_map: no tokens were merged; give a model of merge_tokens or "
                       "reduce_tokens, after a call of model(inputs)")
    return places.to(home_of(model))


def _unless_slower(model: nn.Module, merged: nn.Module, plan: Plan, inputs: Tensor,
                   budget_s: float) -> nn.Module:
    times = measure({"whole": model, "merged": merged}, inputs, budget_s=budget_s)
    ratio = times.ratio("merged", "whole")
    if ratio.high < 1:
        return merged
    warnings.warn(f"{CALLER}: merging does not pay for inputs of {tuple(inputs.shape)} here: it "
                  f"takes {ratio.low:.2f} to {ratio.high:.2f} times as long, so this copy merges "
                  "nothing. Larger pictures, models or batches, or a larger r, may pay",
                  stacklevel=4)
    return transformed(model, {**plan, "r": [0] * len(plan["r"])}, apply_merging)


def _modes(mode: str | Sequence[str] | None, depth: int) -> list[str]:
    """One of MODES for each of `depth` blocks."""
    if mode == "tofu":
        return ["prune"] * (depth // 2) + ["mlerp"] * (depth - depth // 2)
    modes = per_layer(CALLER, "mode", mode, depth)
    allowed = [*MODES, "tofu"] if isinstance(mode, str) else MODES
    for one in modes:
        require_choice(CALLER, "mode", one, allowed)
    return modes
