"""What is left of the zoo's teacher when a part of it goes: pruning and low rank.

The pages of `chapters/compression` show what these studies store. A row goes as far as its stages
say: "one-shot", "compensated" (least squares put what is left right), "fine-tuned" (from the best
of the stages before). Calibration pictures are training pictures, another draw for each seed, and
what goes at random is another draw as well. `pruning_draws` asks what a choice is worth: neurons
alone, each score and chance drawn several times, on CIFAR-10 and on the shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, training
from ..checkpoint import zoo
from ..compression import low_rank, pruning
from ..compression.pruning import importance
from . import base
from .kit import SEEDS, Row, Run, Study, cpu_timed, read_rows, scored

CALIBRATION = 256
BATCH, TIMING_S = 8, 120.0     # pictures a call, and seconds, of the timing at the end
WANDA = "block by block"       # how it works now: runs of the version before count no more


def movement_pruned(model: nn.Module, ratio: float, calibration: Any = None) -> nn.Module:
    """Movement pruning on the training pictures, for as many steps as the others are fine-tuned."""
    return pruning.movement_prune(model, data.load(base.DATASET), ratio, progress=False,
                                  **base.FINE_TUNING)


def flap(model: nn.Module, mlp: float, heads: float, calibration: Any = None,
         compensate: bool = False) -> nn.Module:
    """FLAP: each kind of unit by one budget over all layers; compensated, biases alone change."""
    how = {"importance": "flap", "budget": "global", "calibration": calibration,
           "compensate": "bias" if compensate else False}
    return pruning.prune_heads(pruning.prune_mlp(model, mlp, **how), heads, **how)


COMPENSATED = (pruning.prune_mlp, pruning.prune_heads, pruning.prune_head_width, flap)
PRUNING_ROWS = read_rows("pruning_cifar10",
                         {**vars(pruning), "movement_pruned": movement_pruned, "flap": flap})
LOW_RANK_ROWS = read_rows("low_rank_cifar10", vars(low_rank))


@cache
def calibration(seed: int, dataset: str | None = None) -> tuple[Tensor, Tensor]:
    """Training pictures and their labels, another draw for each seed."""
    pictures = data.load(dataset or base.DATASET)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return pictures.batch(order[:CALIBRATION])


def changed(model: nn.Module, row: Row, seed: int = 0, compensate: bool = False) -> nn.Module:
    """`model` after the calls of a row."""
    for call, arguments in row.calls:
        how = dict(arguments)
        if how.pop("calibrated", call is not low_rank.replace_attention):
            how["calibration"] = calibration(seed)
        if how.get("importance") == "random":
            how["seed"] = seed
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


def _validation() -> data.Pictures:
    return data.load(base.DATASET, "val", count=2000)


def _sensitivity(part: str, prune: Callable[..., nn.Module]) -> list[dict[str, Any]]:
    """Accuracy on 2,000 validation pictures with one layer pruned at a time."""
    pictures = _validation()
    rows = pruning.sensitivity(base.model(), pictures, prune, importance="taylor",
                               calibration=calibration(0))
    return [{"part": part, "layer": row["layer"], "ratio": row["ratio"], **scored(training.Score(
        row["accuracy"], row["low"], row["high"], len(pictures)))} for row in rows]


def result(study: Study, **alone: Callable[..., nn.Module]) -> dict[str, Any]:
    """Every run beside the dense model; of the parts in `alone`, also each layer pruned alone."""
    more = {"sensitivity": [row for part in alone.items() for row in _sensitivity(*part)]}
    if alone:       # the whole model, on the pictures on which its layers are judged
        more["sensitivity_dense"] = scored(training.evaluate(base.model(), _validation()))
    return base.result(study, _timed, {"": BATCH}, TIMING_S, calibration=CALIBRATION, **more)


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    version = [WANDA] if row.columns.get("method") == "wanda" else []
    return [base.MODEL, base.mark(), CALIBRATION, base.TEST, base.tuning_key(stage),
            row.recipe, "compensated" in row.stages, stage, seed, *version]


DRAWS = {"magnitude": (0,), "random": (0, 1, 2, 3, 4)}         # of the others, SEEDS
SCORED_ON = {"cifar10": 2000, "shapes": 1000}                  # test pictures
SHARES = {"cifar10": (0.5, 0.75), "shapes": (0.75, 0.9)}       # of the neurons, removed
FEW = (2, 8, 32, 128)                                          # calibration pictures, compensated


def _draw_rows() -> dict[str, Row]:
    """One-shot rows of every importance, and compensated rows on few calibration pictures."""
    rows = {f"{dataset}, {share:.0%}, {way}": _draw_row(dataset, share, way)
            for dataset, shares in SHARES.items() for share in shares
            for way in importance.IMPORTANCES if way != "flap"}      # inside a layer that is "std"
    return rows | {f"cifar10, 75%, compensated on {count}":
                   _draw_row("cifar10", 0.75, "magnitude", count)
                   for count in (*FEW, CALIBRATION)}


def _draw_row(dataset: str, share: float, way: str, pictures: int = 0) -> Row:
    """`pictures` for the compensation; 0 is without."""
    columns = {"dataset": dataset, "ratio": share, "importance": way, "pictures": pictures}
    seeds = SEEDS if pictures else DRAWS.get(way, SEEDS)
    calls = ((pruning.prune_mlp, {"ratio": share, "importance": way}),)
    return Row(columns, calls, ("compensated" if pictures else "one-shot",), seeds)


@cache
def _whole(dataset: str) -> nn.Module:
    return checkpoint.load(f"zoo:{base.MODEL}/{dataset}")


def _tested(model: nn.Module, dataset: str) -> dict[str, float]:
    return scored(training.evaluate(model, data.load(dataset, "test", count=SCORED_ON[dataset])))


def run_draw(row: Row, stage: str, seed: int) -> Run:
    """One choice of neurons, scored on test pictures."""
    dataset, pictures = row.columns["dataset"], row.columns["pictures"]
    inputs, labels = calibration(seed, dataset)
    few = slice(pictures or None)
    how = {"calibration": (inputs[few], labels[few]), "seed": seed, "compensate": pictures > 0}
    [(call, arguments)] = row.calls
    model, seconds = cpu_timed(lambda: call(_whole(dataset), **arguments, **how))
    return {"stage": stage, "seed": seed, **_tested(model, dataset), "seconds": seconds,
            "cpu_seconds": seconds}


def key_draw(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    dataset = row.columns["dataset"]
    return [base.MODEL, zoo.card(f"{base.MODEL}/{dataset}")["sha256"], CALIBRATION,
            SCORED_ON[dataset], dict(row.columns), row.recipe, seed]


def draws(study: Study) -> dict[str, Any]:
    """Every run, and each whole model's score."""
    dense = {dataset: _tested(_whole(dataset), dataset) for dataset in SCORED_ON}
    return {"model": base.MODEL, "calibration": CALIBRATION, "test_pictures": SCORED_ON,
            "dense": dense, "rows": study.table()}


STUDIES = (Study("pruning_draws", draws, _draw_rows(), run_draw, key_draw, "compression"),
           Study("pruning_cifar10",
                 partial(result, mlp=pruning.prune_mlp, heads=pruning.prune_heads),
                 PRUNING_ROWS, run, key, "compression"),
           Study("low_rank_cifar10", result, LOW_RANK_ROWS, run, key, "compression"))
