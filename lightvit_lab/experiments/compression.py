"""What is left of the zoo's teacher when a part of it goes: pruning and low rank.

The pages of `chapters/compression` show what these studies store. A row goes as far as its stages
say: "one-shot", "compensated" (least squares put what is left right), "fine-tuned" (from the best
of the stages before). Calibration pictures are training pictures, another draw for each seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, training
from ..compression.low_rank import factors as low_rank, attention as low_rank_attention
from ..compression.pruning import movement, pruners as pruning, unstructured as sparsity
from . import base
from .kit import SEEDS, Row, Run, Study, scored

CALIBRATION = 256
BATCH, TIMING_S = 8, 120.0     # pictures a call, and seconds, of the timing at the end
ONE, WHOLE = ("one-shot",), ("one-shot", "fine-tuned")
EACH = ("one-shot", "compensated", "fine-tuned")
PRUNE = {"mlp": pruning.prune_mlp, "heads": pruning.prune_heads,
         "head width": pruning.prune_head_width, "embedding": pruning.prune_embedding,
         "blocks": pruning.prune_blocks, "weights": sparsity.prune_weights}
COMPENSATED = (pruning.prune_mlp, pruning.prune_heads, pruning.prune_head_width)


def movement_pruned(model: nn.Module, ratio: float, calibration: Any = None) -> nn.Module:
    """Movement pruning on the training pictures, for as many steps as the others are fine-tuned."""
    return movement.movement_prune(model, data.load(base.DATASET), ratio, progress=False,
                                   **base.FINE_TUNING)


def _pruned(part: str, method: str, ratio: float, stages: tuple[str, ...] = ONE) -> Row:
    call, how = PRUNE[part], {"ratio": ratio, "importance": method}
    if method == "2:4":
        how |= {"importance": "magnitude", "pattern": "2:4"}
    if method == "movement":
        call, how = movement_pruned, {"ratio": ratio}
    shown = {"method": method, "part": part, "ratio": ratio, "budget": "layer"}
    return Row(shown, ((call, how),), stages)


def _mlp_and_heads(method: str, budget: str = "layer", stages: tuple[str, ...] = EACH[:2],
                   seeds: tuple[int, ...] = (0,)) -> Row:
    """Half of the MLP's neurons and a quarter of the heads."""
    calls = tuple((PRUNE[part], {"ratio": ratio, "importance": method, "budget": budget})
                  for part, ratio in (("mlp", 0.5), ("heads", 0.25)))
    shown = {"method": method, "part": "mlp + heads", "ratio": 0.5, "budget": budget}
    return Row(shown, calls, stages, seeds)


PRUNING_ROWS = {
    "mlp + heads, magnitude": _mlp_and_heads("magnitude", "layer", EACH, SEEDS),
    "mlp + heads, taylor": _mlp_and_heads("taylor", "layer", EACH, SEEDS),
    "mlp + heads, fisher": _mlp_and_heads("fisher"),
    "mlp + heads, activation": _mlp_and_heads("activation"),
    "mlp + heads, random": _mlp_and_heads("random"),
    "mlp + heads, magnitude, global": _mlp_and_heads("magnitude", "global"),
    "mlp + heads, taylor, global": _mlp_and_heads("taylor", "global"),
    **{f"{part} {ratio:.0%}": _pruned(part, "taylor", ratio, EACH if ratio == 0.75 else EACH[:2])
       for part in ("mlp", "heads") for ratio in (0.25, 0.5, 0.75)},
    "head width 50%": _pruned("head width", "taylor", 0.5, EACH),
    "embedding 25%": _pruned("embedding", "taylor", 0.25, WHOLE),
    "embedding 50%": _pruned("embedding", "taylor", 0.5),
    **{f"blocks {count} of 6": _pruned("blocks", "activation", count / 6, WHOLE)
       for count in (1, 2, 3)},
    "zeros 50%, magnitude": _pruned("weights", "magnitude", 0.5),
    "zeros 70%, magnitude": _pruned("weights", "magnitude", 0.7),
    "zeros 90%, magnitude": _pruned("weights", "magnitude", 0.9, WHOLE),
    "zeros 50%, wanda": _pruned("weights", "wanda", 0.5),
    "zeros 70%, wanda": _pruned("weights", "wanda", 0.7),
    "zeros 90%, wanda": _pruned("weights", "wanda", 0.9),
    "zeros 90%, movement": _pruned("weights", "movement", 0.9, ("fine-tuned",)),
    "zeros 50%, 2:4": _pruned("weights", "2:4", 0.5, WHOLE),
}


def _factors(method: str, name: str, value: float, stages: tuple[str, ...] = ONE,
             seeds: tuple[int, ...] = (0,), qkv: str = "joint") -> Row:
    shown = {"method": method, "part": "all", "ratio": None, "setting": f"{name} {value}",
             "qkv": qkv}
    how = {name: value, "qkv": qkv, "calibrated": method != "SVD"}
    return Row(shown, ((low_rank.factorize, how),), stages, seeds)


def _factor_rows(method: str, seeds: tuple[int, ...]) -> dict[str, Row]:
    return {
        f"{method}, budget 0.75": _factors(method, "budget", 0.75, seeds=seeds),
        f"{method}, budget 0.35": _factors(method, "budget", 0.35, seeds=seeds),
        f"{method}, budget 0.5": _factors(method, "budget", 0.5, WHOLE, SEEDS),
        f"{method}, budget 0.25": _factors(method, "budget", 0.25, WHOLE),
        **{f"{method}, energy {energy}": _factors(method, "energy", energy)
           for energy in (0.99, 0.95, 0.9)},
    }


def _attention(method: str, name: str, rank: int) -> Row:
    shown = {"method": name, "part": "attention", "ratio": None, "setting": f"rank {rank}",
             "qkv": None}
    how = {"method": method, "rank": rank}
    return Row(shown, ((low_rank_attention.replace_attention, how),), WHOLE)


AWARE = "activation-aware SVD"
LOW_RANK_ROWS = {
    **_factor_rows("SVD", (0,)), **_factor_rows(AWARE, SEEDS),
    f"{AWARE}, split qkv": _factors(AWARE, "budget", 0.5, qkv="split"),
    f"{AWARE}, per_head qkv": _factors(AWARE, "budget", 0.5, qkv="per_head"),
    **{f"Linformer, rank {rank}": _attention("linformer", "Linformer", rank) for rank in (4, 16)},
    **{f"Nystroem, rank {rank}": _attention("nystrom", "Nystroem", rank) for rank in (4, 16)},
}


@lru_cache(maxsize=4)
def calibration(seed: int) -> tuple[Tensor, Tensor]:
    """Training pictures and their labels, another draw for each seed."""
    pictures = data.load(base.DATASET)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return pictures.batch(order[:CALIBRATION])


def changed(model: nn.Module, row: Row, seed: int = 0, compensate: bool = False) -> nn.Module:
    """`model` after the calls of a row."""
    for call, given in row.calls:
        arguments = dict(given)
        if arguments.pop("calibrated", call is not low_rank_attention.replace_attention):
            arguments["calibration"] = calibration(seed)
        if compensate and call in COMPENSATED:
            arguments["compensate"] = True
        model = call(model, **arguments)
    return model


def run(row: Row, stage: str, seed: int) -> Run:
    """One row, as far as `stage`."""
    call = row.calls[0][0]

    def make() -> nn.Module:
        compensate = stage != "one-shot" and "compensated" in row.stages
        model = changed(base.model(), row, seed, compensate)
        if stage != "fine-tuned" or call is movement_pruned:
            return model
        return base.fine_tuned(model, seed, keep_zeros=row.shown["part"] == "weights")

    off = call is low_rank.factorize and stage == "one-shot"
    return base.run(make, stage, seed, lambda model: {
        "output_error": _output_error(model) if off else None})


def _output_error(model: nn.Module) -> float:
    """Mean relative error of factorized layers' outputs on validation pictures; 0 without any."""
    if not any(isinstance(part, low_rank.LowRankLinear) for part in model.modules()):
        return 0.0
    inputs = data.load(base.DATASET, "val").batch(torch.arange(CALIBRATION))[0]
    errors = low_rank.output_error(base.model(), model, inputs)
    return round(sum(errors.values()) / len(errors), 4)


def _timed(model: nn.Module, row: Row) -> nn.Module:
    """A model as fast as the row's, one-shot; where that takes training, with as many zeros."""
    if row.calls[0][0] is movement_pruned:
        return sparsity.prune_weights(model, row.shown["ratio"])
    return changed(model, row)


def _sensitivity(part: str) -> list[dict[str, Any]]:
    """Accuracy on 2,000 validation pictures with one layer pruned at a time."""
    pictures = data.load(base.DATASET, "val", count=2000)
    rows = pruning.sensitivity(base.model(), pictures, PRUNE[part], importance="taylor",
                               calibration=calibration(0))
    return [{"part": part, "layer": row["layer"], "ratio": row["ratio"], **scored(training.Score(
        row["accuracy"], row["low"], row["high"], len(pictures)))} for row in rows]


def result(study: Study, one_by_one: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every run beside the dense model; of the parts `one_by_one`, also each layer pruned alone."""
    alone = [row for part in one_by_one for row in _sensitivity(part)]
    return base.result(study, _timed, {"": BATCH}, TIMING_S, calibration=CALIBRATION,
                       sensitivity=alone)


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    return [base.MODEL, base.mark(), CALIBRATION, base.TEST, sorted(base.FINE_TUNING.items()),
            row.recipe, "compensated" in row.stages, stage, seed]


def _study(name: str, rows: dict[str, Row], result: Callable[[Study], dict[str, Any]]) -> Study:
    return Study(name, result, rows, run, key, "compression")


STUDIES = (_study("pruning_cifar10", PRUNING_ROWS, partial(result, one_by_one=("mlp", "heads"))),
           _study("low_rank_cifar10", LOW_RANK_ROWS, result))
