"""Token merging: fewer tokens from block to block, as `chapters/dynamic/token_merging` derives it.

    merged = merge_tokens(model, r=8)                                  # ToMe, arXiv 2210.09461
    merged = merge_tokens(model, r=8, schedule="decreasing")           # most in the first blocks
    merged = merge_tokens(model, r=8, mode="tofu")                     # drop early, merge late: arXiv 2312.01026
    merged = merge_tokens(model, r=8, matching="clusters")             # after TCFormer, arXiv 2204.08680

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
from ...profiling import Ratio, measure
from ...runtime.running import home_of
from .matching import MATCHINGS, MODES, Matching, bipartite_soft_matching, cluster_matching, most
from .block import Merging, MergingBlock, Trace

__all__ = ["Matching", "apply_merging", "bipartite_soft_matching", "cluster_matching", "merge_tokens", "source_map",
           "spread_r", "time_ratio"]

SCHEDULES = ("constant", "decreasing")
_ME = "merge_tokens"


@plain_numbers
def merge_tokens(model: nn.Module, r: int | Sequence[int], proportional_attention: bool = True, *,
                 schedule: str = "constant", mode: str | Sequence[str] = "weighted",
                 matching: str = "bipartite", restore: bool | None = None,
                 faster_on: Tensor | None = None, budget_s: float = 2.0) -> nn.Module:
    """A copy of `model`, the lab's ViT or timm's, in which every block merges `r` tokens, or block
    i `r[i]` of them.

    `proportional_attention`: a merged token draws as much attention as the patches in it.
    `schedule`: "constant", or "decreasing" from 2 r in the first block to 0 in the last. `mode` is
    one of MODES for all blocks or one each, or "tofu": "prune" in the first half, "mlerp" in the
    second. `matching` is "bipartite" or "clusters". `restore` fills all places again after the last
    block, so that means over tokens weigh merged ones by size; None is: where the logits need it.
    With `faster_on` (inputs), both models are timed for `budget_s` seconds, and where merging is
    not surely faster a warning says so and the copy does not merge.

    The new model lists `.r_per_block`, what is really merged (deeper blocks clamp r to half of
    their tokens), and `.tokens_per_block`, what is left after each. Raises LabError on an r that is
    negative, or over half of the tokens that enter the first block that merges, on schedules and
    modes of the wrong length, and on other models.
    """
    depth = len(plain_blocks(_ME, model))
    restore = not reads_class_token(model) if restore is None else bool(restore)
    plan = {"transform": "merge_tokens", "r": spread_r(r, depth, schedule), "mode": _modes(mode, depth),
            "matching": matching, "proportional": bool(proportional_attention), "restore": restore}
    merged = transformed(model, plan, apply_merging)
    return merged if faster_on is None else _unless_slower(model, merged, plan, faster_on, budget_s)


@transform("merge_tokens")
def apply_merging(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace the blocks of `model` as `plan` says: {"r": [8, 8], "mode": ["weighted", "weighted"],
    "matching": "bipartite", "proportional": true, "restore": false}, one r and one mode per block.
    Where every r is 0, none is.
    """
    blocks = plain_blocks(_ME, model)
    num_tokens, protected = token_counts(_ME, model)
    modes, matching = _modes(plan.get("mode"), len(blocks)), plan.get("matching")
    require_choice(_ME, "matching", matching, MATCHINGS)
    for name in ("proportional", "restore"):
        require_choice(_ME, name, plan.get(name), (True, False))
    used = used_r(spread_r(plan.get("r"), len(blocks)), num_tokens, protected)
    model.r_per_block = used
    model.tokens_per_block = [num_tokens - sum(used[:index + 1]) for index in range(len(used))]
    if not any(used):
        return model
    trace = Trace(num_tokens)
    for index, (block, r, mode) in enumerate(zip(list(blocks), used, modes)):
        restore = plan["restore"] and index == len(used) - 1
        blocks[index] = MergingBlock(block, Merging(r, protected, mode, matching), trace, plan["proportional"],
                                     first=index == 0, restore=restore)
    return model


@plain_numbers
def spread_r(r: int | Sequence[int], depth: int, schedule: str = "constant") -> list[int]:
    """r of each of `depth` blocks: as given where `r` is a sequence, else by `schedule`; deeper
    blocks may clamp it.

    "decreasing" is int(2 r (1 - i / (depth - 1))) in block i: about as many in all, while they save
    the most. Raises LabError on negative numbers, wrong lengths and unknown schedules.
    """
    require_choice(_ME, "schedule", schedule, SCHEDULES)
    if isinstance(r, Sequence) and not isinstance(r, str):
        if len(r) != depth:
            raise LabError(f"{_ME}: r has {len(r)} numbers, the model has {depth} blocks; give one number for each "
                           "block, or one for all")
        if schedule != "constant":
            raise LabError(f"{_ME}: schedule={schedule!r} beside an r for each block; give one or the other, such as "
                           'r=8, schedule="decreasing"')
        return [_whole(f"r[{index}]", value) for index, value in enumerate(r)]
    r = _whole("r", r)
    if schedule == "constant" or depth == 1:
        return [r] * depth
    return [2 * r * (depth - 1 - index) // (depth - 1) for index in range(depth)]


def used_r(asked: Sequence[int], num_tokens: int, protected: int) -> list[int]:
    """What each block really merges: `asked`, but from the second block that merges on at most half
    of its tokens.

    Raises LabError where the first block that merges is asked for more than half of the
    `num_tokens` that enter it.
    """
    used: list[int] = []
    for index, r in enumerate(asked):
        limit = most(num_tokens - sum(used), protected)
        if r > limit and not any(used):
            raise LabError(f"{_ME}: r={r} is more than half of the {num_tokens} tokens entering block {index}; give "
                           f"0 <= r <= {limit}")
        used.append(min(r, limit))
    return used


def source_map(model: nn.Module) -> Tensor:
    """(batch, tokens): in which of the tokens left at the end each of the first is, in the last
    pass of `model`.

    On the device of the weights. `torch.nn.functional.one_hot(source_map(model)).mT` is the
    published source matrix. Raises LabError if nothing was merged.
    """
    trace = next((block.trace for block in model.modules() if isinstance(block, MergingBlock)), None)
    places = None if trace is None else trace.places()
    if places is None:
        raise LabError("source_map: no tokens were merged; give a model of merge_tokens, after a call of model(inputs)")
    return places.to(home_of(model))


@plain_numbers
def time_ratio(model: nn.Module, merged: nn.Module, inputs: Tensor, budget_s: float = 2.0) -> Ratio:
    """Time of `merged` over time of `model` on `inputs`, measured in turns; merging pays where all
    of it is below 1.
    """
    found = measure({"whole": model, "merged": merged}, inputs, budget_s=budget_s)
    return found.ratio("merged", "whole")


def _unless_slower(model: nn.Module, merged: nn.Module, plan: Plan, inputs: Tensor,
                   budget_s: float) -> nn.Module:
    ratio = time_ratio(model, merged, inputs, budget_s)
    if ratio.high < 1:
        return merged
    warnings.warn(f"{_ME}: merging does not pay for inputs of {tuple(inputs.shape)} here: merging {plan['r']} takes "
                  f"{ratio.low:.2f} to {ratio.high:.2f} times as long as not merging; this copy merges nothing. Larger "
                  "pictures, models or batches, or a larger r, may pay", stacklevel=3)
    return transformed(model, {**plan, "r": [0] * len(plan["r"])}, apply_merging)


def _modes(mode: str | Sequence[str] | None, depth: int) -> list[str]:
    """One of MODES for each of `depth` blocks."""
    if mode == "tofu":
        return ["prune"] * (depth // 2) + ["mlerp"] * (depth - depth // 2)
    several = isinstance(mode, Sequence) and not isinstance(mode, str)
    modes = list(mode) if several else [mode] * depth
    if len(modes) != depth:
        raise LabError(f"{_ME}: mode has {len(modes)} entries, the model has {depth} blocks; give one for each, or "
                       "one for all")
    for one in modes:
        require_choice(_ME, "mode", one, MODES if several else [*MODES, "tofu"])
    return modes


def _whole(name: str, value: object) -> int:
    return require_whole(_ME, name, value, 0)
