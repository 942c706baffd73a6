"""Token merging: fewer tokens from block to block, as `chapters/dynamic/token_merging` derives it.

    merged = merge_tokens(model, r=8)                            # ToMe, arXiv 2210.09461
    merged = merge_tokens(model, r=8, schedule="decreasing")     # most in the first blocks
    merged = merge_tokens(model, r=8, mode="tofu")               # prunes, then merges: 2312.01026
    merged = merge_tokens(model, r=8, matching="clusters")       # after TCFormer, arXiv 2204.08680

Nothing is trained; `training.fit(merged, data)` wins back what it lost. Every picture of a batch
merges its own tokens, and as many as every other, so batches stay rectangular.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_choice, require_whole
from ...models.timm_parts import plain_blocks, reads_class_token, token_counts
from ...models.transforming import Plan, transform, transformed
from ...profiling import measure
from ...runtime.running import home_of
from ..layers import per_layer
from .block import Merging, MergingBlock, Trace
from .matching import MATCHINGS, MODES, max_r

SCHEDULES = ("constant", "decreasing")
CALLER = "merge_tokens"


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
    trace, last = Trace(num_tokens), len(used) - 1
    for place, block in enumerate(blocks if any(used) else ()):
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

    On the device of the weights. `torch.nn.functional.one_hot(source_map(model)).mT` is the
    published source matrix. Raises LabError if nothing was merged.
    """
    traces = [block.trace for block in model.modules() if isinstance(block, MergingBlock)]
    places = traces[0].places() if traces else None
    if places is None:
        raise LabError("source_map: no tokens were merged; give a model of merge_tokens, after a "
                       "call of model(inputs)")
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
