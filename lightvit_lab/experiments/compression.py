"""What is left of the zoo's teacher when a part of it goes: pruning and low rank, one-shot, compensated, fine-tuned.

The pages of `chapters/compression` show what these studies store. Calibration pictures are training pictures, another
draw for each seed; rates and steps of fine-tuning are the same for all rows, and nothing was chosen on the test
pictures. Times are measured at the end in one interleaved run, all rows of a study beside the dense model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, profiling, training
from ..checkpoint import zoo
from ..compression import low_rank, low_rank_attention, movement, pruning, sparsity
from ..models.transforming import copied
from ..runtime.wrapped import unwrapped
from .keeping import kept

MODEL, DATASET, CALIBRATION, TEST, SEEDS = "lab_vit_teacher", "cifar10", 256, 5000, (0, 1, 2)
FINE_TUNING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "optimizer": "muon", "schedule": "linear", "warmup": 0.1,
               "augment": ("flip", "crop")}
BATCH, TIMING_S = 8, 120.0     # pictures a call, and seconds, of the timing at the end
EACH, WHOLE = ("one-shot", "compensated", "fine-tuned"), ("one-shot", "fine-tuned")
FOLLOWED = (("magnitude", "layer"), ("taylor", "layer"))
Calls = tuple[tuple[Callable[..., nn.Module], Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Row:
    """One way to make the model smaller: the calls, one after the other, and how far each is followed.

    `shown` stands in the row as it is (method, part, ratio, setting, qkv, budget). "compensated" adds
    `compensate=True` to calls that know it; "fine-tuned" goes on from the best of the stages before.
    """

    calls: Calls
    shown: Mapping[str, Any]
    stages: tuple[str, ...] = ("one-shot",)
    seeds: tuple[int, ...] = (0,)

    @property
    def recipe(self) -> str:
        """The calls as text."""
        return " -> ".join(f"{call.__name__}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
                           for call, given in self.calls)


def movement_pruned(model: nn.Module, ratio: float, calibration: Any = None) -> nn.Module:
    """Movement pruning on the training pictures, for as many steps as the others are fine-tuned."""
    return movement.movement_prune(model, data.load(DATASET), ratio, progress=False, **FINE_TUNING)


def _parts(importance: str, budget: str = "layer") -> Row:
    """Half of the MLP's neurons and a quarter of the heads, the goal's recipe; `FOLLOWED` over all seeds to the end."""
    seeds, stages = (SEEDS, EACH) if (importance, budget) in FOLLOWED else ((0,), EACH[:2])
    how = {"importance": importance, "budget": budget}
    calls = ((pruning.prune_mlp, {"ratio": 0.5, **how}), (pruning.prune_heads, {"ratio": 0.25, **how}))
    shown = {"method": importance, "part": "mlp + heads", "ratio": 0.5, "budget": budget}
    return Row(calls, shown, stages, seeds)


def _one_part(prune: Callable[..., nn.Module], part: str, ratio: float, stages: Sequence[str]) -> Row:
    how = {"ratio": ratio, "importance": "activation" if part == "blocks" else "taylor"}
    return Row(((prune, how),), {"method": how["importance"], "part": part, "ratio": ratio, "budget": "layer"},
               tuple(stages))


def _zeros(method: str, ratio: float, stages: Sequence[str] = ("one-shot",)) -> Row:
    pattern = {"pattern": "2:4"} if method == "2:4" else {}
    how = {"ratio": ratio, "importance": "magnitude" if method == "2:4" else method, **pattern}
    shown = {"method": method, "part": "weights", "ratio": ratio, "budget": "layer"}
    if method == "movement":
        return Row(((movement_pruned, {"ratio": ratio}),), shown, ("fine-tuned",))
    return Row(((sparsity.prune_weights, how),), shown, tuple(stages))


def _pruning_rows() -> dict[str, Row]:
    rows = {f"mlp + heads, {importance}": _parts(importance)
            for importance in ("magnitude", "taylor", "fisher", "activation", "random")}
    rows |= {f"mlp + heads, {importance}, global": _parts(importance, "global")
             for importance in ("magnitude", "taylor")}
    for part, prune in {"mlp": pruning.prune_mlp, "heads": pruning.prune_heads}.items():
        rows |= {f"{part} {ratio:.0%}": _one_part(prune, part, ratio, EACH if ratio == 0.75 else EACH[:2])
                 for ratio in (0.25, 0.5, 0.75)}
    rows |= {"head width 50%": _one_part(pruning.prune_head_width, "head width", 0.5, EACH)}
    rows |= {f"embedding {ratio:.0%}": _one_part(pruning.prune_embedding, "embedding", ratio, WHOLE[:1 + (ratio < 0.5)])
             for ratio in (0.25, 0.5)}
    rows |= {f"blocks {count} of 6": _one_part(pruning.prune_blocks, "blocks", count / 6, WHOLE) for count in (1, 2, 3)}
    rows |= {f"zeros {ratio:.0%}, {method}": _zeros(method, ratio, WHOLE[:1 + ((method, ratio) == ("magnitude", 0.9))])
             for method in ("magnitude", "wanda") for ratio in (0.5, 0.7, 0.9)}
    return rows | {"zeros 90%, movement": _zeros("movement", 0.9), "zeros 50%, 2:4": _zeros("2:4", 0.5, WHOLE)}


def _factors(method: str, setting: Mapping[str, Any], qkv: str = "joint", stages: Sequence[str] = ("one-shot",),
             seeds: tuple[int, ...] = (0,)) -> Row:
    name, value = next(iter(setting.items()))
    shown = {"method": method, "part": "all", "ratio": None, "setting": f"{name} {value}", "qkv": qkv}
    calls = ((low_rank.factorize, {**setting, "qkv": qkv, "calibrated": method != "SVD"}),)
    return Row(calls, shown, tuple(stages), seeds)


def _low_rank_rows() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for method, seeds in {"SVD": (0,), "activation-aware SVD": SEEDS}.items():
        rows |= {f"{method}, budget {budget}": _factors(method, {"budget": budget}, seeds=seeds)
                 for budget in (0.75, 0.35)}
        rows |= {f"{method}, budget {budget}": _factors(method, {"budget": budget}, stages=WHOLE, seeds=chosen)
                 for budget, chosen in ((0.5, SEEDS), (0.25, (0,)))}
        rows |= {f"{method}, energy {energy}": _factors(method, {"energy": energy}) for energy in (0.99, 0.95, 0.9)}
    rows |= {f"activation-aware SVD, {qkv} qkv": _factors("activation-aware SVD", {"budget": 0.5}, qkv)
             for qkv in ("split", "per_head")}
    for method, name in {"linformer": "Linformer", "nystrom": "Nystroem"}.items():
        rows |= {f"{name}, rank {rank}": Row(
            ((low_rank_attention.replace_attention, {"method": method, "rank": rank}),),
            {"method": name, "part": "attention", "ratio": None, "setting": f"rank {rank}", "qkv": None}, WHOLE)
            for rank in (4, 16)}
    return rows


@dataclass(frozen=True)
class Study:
    """Rows, and which parts are scanned layer by layer."""

    rows: Mapping[str, Row]
    scanned: Mapping[str, Callable[..., nn.Module]] = field(default_factory=dict)


STUDIES = {
    "pruning_cifar10": Study(_pruning_rows(), {"mlp": pruning.prune_mlp, "heads": pruning.prune_heads}),
    "low_rank_cifar10": Study(_low_rank_rows()),
}


def study(name: str, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Every row (or `labels`) with scores, costs and time, the dense model, the scan of layers; kept runs count."""
    plan, model = STUDIES[name], teacher()
    rows = {label: plan.rows[label] for label in labels or plan.rows}
    found = [{"label": label, "recipe": row.recipe, **row.shown, **_kept(name, label, row, stage, seed)}
             for label, row in rows.items() for stage in row.stages for seed in row.seeds]
    times = _times({label: _shape(model, row) for label, row in rows.items()}, model)
    return {"dataset": DATASET, "model": MODEL, "calibration": CALIBRATION, "test_pictures": TEST,
            "fine_tuning": dict(FINE_TUNING), "dense": {**described(model), **times["dense"]},
            "rows": [{**row, **times[row["label"]]} for row in found],
            "sensitivity": [row for part, prune in plan.scanned.items() for row in _scanned(part, prune)],
            "seconds": round(sum(row["seconds"] for row in found), 1)}


@lru_cache(maxsize=1)
def teacher() -> nn.Module:
    """The model that is made smaller."""
    return checkpoint.load(f"zoo:{MODEL}/{DATASET}")


@lru_cache(maxsize=4)
def calibration(seed: int) -> tuple[Tensor, Tensor]:
    """Training pictures and their labels, another draw for each seed."""
    pictures = data.load(DATASET)
    index = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))[:CALIBRATION]
    return pictures.batch(index)


def changed(model: nn.Module, row: Row, seed: int = 0, compensate: bool = False) -> nn.Module:
    """`model` after the calls of a row."""
    for call, given in row.calls:
        arguments = dict(given)
        sees = arguments.pop("calibrated", call not in (low_rank_attention.replace_attention,))
        if sees:
            arguments["calibration"] = calibration(seed)
        if compensate and call in (pruning.prune_mlp, pruning.prune_heads, pruning.prune_head_width):
            arguments["compensate"] = True
        model = call(model, **arguments)
    return model


def _kept(name: str, label: str, row: Row, stage: str, seed: int) -> dict[str, Any]:
    """The run of one row, stage and seed: from the cache, if it was made before from the same teacher."""
    about = [MODEL, zoo.card(f"{MODEL}/{DATASET}")["sha256"], CALIBRATION, TEST, sorted(FINE_TUNING.items()),
             row.recipe, "compensated" in row.stages, stage, seed]
    return kept("compression", about, lambda: _run(row, stage, seed), f"{name}: {label}, {stage}, seed {seed}")


def _run(row: Row, stage: str, seed: int) -> dict[str, Any]:
    start = process_time()
    torch.manual_seed(seed)
    model = changed(teacher(), row, seed, compensate=stage != "one-shot" and "compensated" in row.stages)
    if stage == "fine-tuned" and row.calls[0][0] is not movement_pruned:
        model = fine_tuned(model, seed, keep_zeros=row.shown["part"] == "weights")
    seconds = round(process_time() - start, 1)
    error = _output_error(model) if row.calls[0][0] is low_rank.factorize and stage == "one-shot" else None
    return {"stage": stage, "seed": seed, **described(model), "output_error": error, "seconds": seconds,
            "cpu_seconds": seconds}


def fine_tuned(model: nn.Module, seed: int, keep_zeros: bool = False) -> nn.Module:
    """A copy, trained for a few steps on labels at a small rate."""
    model = copied(model)
    how = {**FINE_TUNING, "seed": seed, "label_smoothing": 0.1, "progress": False, "threads": torch.get_num_threads()}
    if keep_zeros:
        with sparsity.zeros_kept(model):
            training.fit(model, data.load(DATASET), **how)
    else:
        training.fit(model, data.load(DATASET), **how)
    return model


def _output_error(model: nn.Module) -> float:
    """Relative error of the factorized layers' outputs on validation pictures, their mean; 0 if all are whole."""
    if not any(isinstance(part, low_rank.LowRankLinear) for part in model.modules()):
        return 0.0
    errors = low_rank.output_error(teacher(), model, data.load(DATASET, "val").batch(torch.arange(CALIBRATION))[0])
    return round(sum(errors.values()) / len(errors), 4)


def described(model: nn.Module) -> dict[str, Any]:
    """What a model scores and costs: test accuracy, zeros in its linear layers, bytes on disk, parameters, MACs."""
    model = unwrapped(model)
    score, cost = training.evaluate(model, data.load(DATASET, "test", count=TEST)), profiling.count(model, (3, 32, 32))
    layers = [layer.weight for block in model.blocks for layer in block.modules() if isinstance(layer, nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in layers) / sum(weight.numel() for weight in layers)
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4),
            "zeros": round(zeros, 4), "bytes": _bytes(model), "params": cost.params, "macs": cost.macs}


def _bytes(model: nn.Module) -> int:
    """Bytes of the file that `checkpoint.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        checkpoint.save(model, path)
        return path.stat().st_size


def _shape(model: nn.Module, row: Row) -> nn.Module:
    """A model whose time is that of the row: the row's, one-shot; where that would need training, zeros as many."""
    if row.calls[0][0] is movement_pruned:
        return sparsity.prune_weights(model, row.shown["ratio"])
    return changed(model, row)


def _times(smaller: Mapping[str, nn.Module], dense: nn.Module) -> dict[str, dict[str, Any]]:
    inputs = data.load(DATASET, "test").batch(torch.arange(BATCH))[0]
    times = profiling.measure({"dense": dense, **smaller}, inputs, budget_s=TIMING_S, threads=torch.get_num_threads())
    return {label: speed(times, "dense", label) for label in times}


def speed(times: profiling.Timings, dense: str, label: str) -> dict[str, Any]:
    """Latency in ms with its interval, and the dense model's time over its own, with that ratio's."""
    one = times[label]
    return {"latency_ms": round(one.latency_ms, 3), "interval_ms": [round(edge, 3) for edge in one.interval_ms],
            "speedup": [round(edge, 3) for edge in times.ratio(dense, label).estimate]}


def _scanned(part: str, prune: Callable[..., nn.Module]) -> list[dict[str, Any]]:
    """Accuracy on 2,000 validation pictures with one layer pruned at a time."""
    pictures = data.load(DATASET, "val", count=2000)
    rows = pruning.sensitivity(teacher(), pictures, prune, importance="taylor", calibration=calibration(0))
    return [{"part": part, "layer": row["layer"], "ratio": row["ratio"], "test": round(row["accuracy"], 4),
             "test_low": round(row["low"], 4), "test_high": round(row["high"], 4)} for row in rows]
