"""The zoo's teacher, which many studies make smaller or faster: what is left of it, and its time.

All rows of a stage are fine-tuned alike, the dense model too. `TUNINGS` says how; the study
`fine_tuning` chose the rate of the short stage on validation pictures, and a trial of six runs,
which is not stored, that of the long one; nothing was chosen on the test pictures.
Times are measured at the end, all rows of a study in turns with the dense model.
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
from ..distillation import distill
from ..distillation.response_distillation import Labels, SoftTargets
from ..models.transforming import copied
from ..runtime.wrapped import unwrapped
from .kit import Row, Run, Study, cpu_timed, scored, times
from .stored_logits import stored_logits

MODEL, DATASET, TEST = "lab_vit_teacher", "cifar10", 5000
FINE_TUNING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "optimizer": "muon",
               "schedule": "linear", "warmup": 0.1, "augment": ("flip", "crop")}
LONG = "fine-tuned, 900 steps"      # with the dense model as teacher
TUNINGS = {"fine-tuned": FINE_TUNING, LONG: {**FINE_TUNING, "steps": 900, "lr": 1e-3}}


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


def tuned(changed: nn.Module, stage: str, seed: int, keep_zeros: bool = False, **own: Any
          ) -> nn.Module:
    """`changed` where `stage` does not train; else a copy, trained as `TUNINGS` says or as `own`.

    The long stage learns from labels and from the dense model, the short one from labels alone.
    """
    if stage not in TUNINGS:
        return changed

    def train(copy: nn.Module, pictures: data.Pictures, **settings: Any) -> None:
        with pruning.keep_zeros(copy) if keep_zeros else nullcontext():
            if stage == LONG:
                distill(copy, stored_logits(model(), pictures, settings, DATASET), pictures,
                        {"labels": Labels(), "soft targets": SoftTargets()}, **settings)
            else:
                training.fit(copy, pictures, label_smoothing=0.1, **settings)

    return trained_copy(changed, train, {**TUNINGS[stage], **own}, seed)


def trained_copy(changed: nn.Module, train: Callable[..., Any], settings: Mapping[str, Any],
                 seed: int) -> nn.Module:
    """A copy of `changed` after `train(copy, pictures, **settings)` on the training pictures."""
    changed = copied(changed)
    train(changed, data.load(DATASET), **settings, seed=seed, progress=False,
          threads=torch.get_num_threads())
    return changed


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


def tuning_key(stage: str) -> list[Any]:
    """What of training decides a run of `stage`; where nothing trains, that of the short one."""
    return sorted(TUNINGS.get(stage, FINE_TUNING).items())


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
    models = {"dense": dense} | {label: apply(dense, row) for label, row in study.rows.items()
                                 if label != "dense"}
    timed = times(models, "dense", {key: inputs(size) for key, size in batches.items()}, budget_s)
    return {"dataset": DATASET, "model": MODEL, "test_pictures": TEST,
            "fine_tuning": dict(FINE_TUNING), "tunings": TUNINGS,
            "dense": {**described(dense), **timed["dense"]},
            "rows": [{**row, **timed[row["label"]]} for row in rows], **more}
