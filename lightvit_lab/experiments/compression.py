"""What is left of the zoo's teacher when a part of it goes: pruning and low rank.

The pages of `chapters/compression` show what these studies store. A row goes as far as its stages
say: "one-shot", "compensated" (least squares put what is left right), "fine-tuned" (from the best
of the stages before). Calibration pictures are training pictures, another draw for each seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, training
from ..compression import low_rank, pruning
from . import base
from .kit import Row, Run, Study, read_rows, scored

CALIBRATION = 256
BATCH, TIMING_S = 8, 120.0     # pictures a call, and seconds, of the timing at the end
COMPENSATED = (pruning.prune_mlp, pruning.prune_heads, pruning.prune_head_width)


def movement_pruned(model: nn.Module, ratio: float, calibration: Any = None) -> nn.Module:
    """Movement pruning on the training pictures, for as many steps as the others are fine-tuned."""
    return pruning.movement_prune(model, data.load(base.DATASET), ratio, progress=False,
                                  **base.FINE_TUNING)


PRUNING_ROWS = read_rows("pruning_cifar10", {**vars(pruning), "movement_pruned": movement_pruned})
LOW_RANK_ROWS = read_rows("low_rank_cifar10", vars(low_rank))


@cache
def calibration(seed: int) -> tuple[Tensor, Tensor]:
    """Training pictures and their labels, another draw for each seed."""
    pictures = data.load(base.DATASET)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return pictures.batch(order[:CALIBRATION])


def changed(model: nn.Module, row: Row, seed: int = 0, compensate: bool = False) -> nn.Module:
    """`model` after the calls of a row."""
    for call, arguments in row.calls:
        how = dict(arguments)
        if how.pop("calibrated", call is not low_rank.replace_attention):
            how["calibration"] = calibration(seed)
        if compensate and call in COMPENSATED:
            how["compensate"] = True
        model = call(model, **how)
    return model


def run(row: Row, stage: str, seed: int) -> Run:
    """One row, as far as `stage`."""
    calls = [call for call, _ in row.calls]

    def make() -> nn.Module:
        compensate = stage != "one-shot" and "compensated" in row.stages
        model = changed(base.model(), row, seed, compensate)
        if movement_pruned in calls:        # trained already
            return model
        return base.tuned(model, stage, seed, keep_zeros=row.columns.get("part") == "weights")

    def error(model: nn.Module) -> dict[str, float | None]:
        factors = low_rank.factorize in calls and stage == "one-shot"
        return {"output_error": _output_error(model) if factors else None}

    return base.run(make, stage, seed, error)


def _output_error(model: nn.Module) -> float:
    """Mean relative error of factorized layers' outputs on validation pictures; 0 without any."""
    if not any(isinstance(part, low_rank.LowRankLinear) for part in model.modules()):
        return 0.0
    errors = low_rank.output_error(base.model(), model, base.inputs(CALIBRATION, "val"))
    return round(sum(errors.values()) / len(errors), 4)


def _timed(model: nn.Module, row: Row) -> nn.Module:
    """A model as fast as the row's, one-shot; where that takes training, with as many zeros."""
    if row.calls[0][0] is movement_pruned:
        return pruning.prune_weights(model, row.columns["ratio"])
    return changed(model, row)


def _sensitivity(part: str, prune: Callable[..., nn.Module]) -> list[dict[str, Any]]:
    """Accuracy on 2,000 validation pictures with one layer pruned at a time."""
    pictures = data.load(base.DATASET, "val", count=2000)
    rows = pruning.sensitivity(base.model(), pictures, prune, importance="taylor",
                               calibration=calibration(0))
    return [{"part": part, "layer": row["layer"], "ratio": row["ratio"], **scored(training.Score(
        row["accuracy"], row["low"], row["high"], len(pictures)))} for row in rows]


def result(study: Study, **alone: Callable[..., nn.Module]) -> dict[str, Any]:
    """Every run beside the dense model; of the parts in `alone`, also each layer pruned alone."""
    return base.result(study, _timed, {"": BATCH}, TIMING_S, calibration=CALIBRATION,
                       sensitivity=[row for part in alone.items() for row in _sensitivity(*part)])


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    return [base.MODEL, base.mark(), CALIBRATION, base.TEST, base.tuning_key(stage),
            row.recipe, "compensated" in row.stages, stage, seed]


STUDIES = (Study("pruning_cifar10",
                 partial(result, mlp=pruning.prune_mlp, heads=pruning.prune_heads),
                 PRUNING_ROWS, run, key, "compression"),
           Study("low_rank_cifar10", result, LOW_RANK_ROWS, run, key, "compression"))
