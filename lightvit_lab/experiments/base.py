"""The zoo's teacher, which many studies make smaller or faster: what is left of it, and its time.

All rows are fine-tuned by the same rates for the same steps, and nothing was chosen on the test
pictures. Times are measured at the end, all rows of a study in turns with the dense model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, profiling, training
from ..checkpoint import zoo
from ..compression import pruning
from ..models.transforming import copied
from ..runtime.wrapped import unwrapped
from .kit import Row, Run, Study, cpu_timed, scored, times

MODEL, DATASET, TEST = "lab_vit_teacher", "cifar10", 5000
FINE_TUNING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "optimizer": "muon",
               "schedule": "linear", "warmup": 0.1, "augment": ("flip", "crop")}


@cache
def model() -> nn.Module:
    """The model that is changed."""
    return checkpoint.load(f"zoo:{MODEL}/{DATASET}")


def mark() -> str:
    """sha256 of the model's weights: runs of another one count no more."""
    return zoo.card(f"{MODEL}/{DATASET}")["sha256"]


def inputs(count: int, split: str = "test") -> Tensor:
    """The first `count` pictures of a split as models take them, (count, 3, H, W)."""
    return data.load(DATASET, split).batch(torch.arange(count))[0]


def fine_tuned(model: nn.Module, seed: int, keep_zeros: bool = False) -> nn.Module:
    """A copy, trained for a few steps on labels at a small rate."""
    model = copied(model)
    with pruning.keep_zeros(model) if keep_zeros else nullcontext():
        training.fit(model, data.load(DATASET), **FINE_TUNING, seed=seed, label_smoothing=0.1,
                     progress=False, threads=torch.get_num_threads())
    return model


def described(model: nn.Module) -> dict[str, Any]:
    """Test accuracy, share of zeros in linear layers, bytes on disk, parameters, MACs."""
    score = training.evaluate(model, data.load(DATASET, "test", count=TEST))
    cost, model = profiling.count(model, (3, 32, 32)), unwrapped(model)
    weights = torch.cat([layer.weight.flatten() for layer in model.blocks.modules()
                         if isinstance(layer, nn.Linear)])
    return {**scored(score), "zeros": round((weights == 0).double().mean().item(), 4),
            "bytes": _bytes(model), "params": cost.params, "macs": cost.macs}


def _bytes(model: nn.Module) -> int:
    """Bytes of the file that `checkpoint.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        checkpoint.save(model, path)
        return path.stat().st_size


def run(make: Callable[[], nn.Module], stage: str, seed: int,
        more: Callable[[nn.Module], dict[str, Any]]) -> Run:
    """One run: the model that `make` makes, described, with `more` of it, and its seconds."""
    changed, seconds = cpu_timed(make)
    return {"stage": stage, "seed": seed, **described(changed), **more(changed),
            "seconds": seconds, "cpu_seconds": seconds}


def result(study: Study, apply: Callable[[nn.Module, Row], nn.Module],
           batches: Mapping[str, int], budget_s: float, **more: Any) -> dict[str, Any]:
    """What is stored: every run with scores, costs and the time of its row, and the dense model.

    `apply(model, row)` is what is timed; `batches` are pictures a call by the ending of their keys.
    """
    dense, rows = model(), study.table()
    models = {"dense": dense} | {label: apply(dense, row) for label, row in study.rows.items()}
    timed = times(models, "dense", {key: inputs(size) for key, size in batches.items()}, budget_s)
    return {"dataset": DATASET, "model": MODEL, "test_pictures": TEST,
            "fine_tuning": dict(FINE_TUNING), "dense": {**described(dense), **timed["dense"]},
            "rows": [{**row, **timed[row["label"]]} for row in rows], **more}
