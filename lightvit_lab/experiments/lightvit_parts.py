"""What each part of LightViT brings: `lab_lightvit` whole and with one part taken out, beside a ViT and a CNN of its size.

`chapters/components/lightvit` shows what this study stores. All candidates see the same pictures in the same order, for
the same steps, with the same optimizer. The rates of the three families were the better of two or three on validation
pictures, with one seed; nothing was chosen on the test pictures.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from .. import data, models, profiling, training

CANDIDATES: dict[str, tuple[str, dict[str, Any], float]] = {      # label: model, its arguments, learning rate
    "LightViT": ("lab_lightvit", {}, 2.4e-2),
    "without global tokens": ("lab_lightvit", {"num_tokens": 0}, 2.4e-2),
    "without gates": ("lab_lightvit", {"gates": False}, 2.4e-2),
    "mean instead of maximum": ("lab_lightvit", {"pooling": "mean"}, 2.4e-2),
    "ViT": ("lab_vit", {}, 1.2e-2),
    "CNN": ("lab_cnn", {"widths": (36, 72, 144), "stem_stride": 2}, 3e-2),
}
SETTINGS = {"steps": 300, "batch_size": 64, "optimizer": "muon", "schedule": "linear", "augment": ("flip",)}
SEEDS = (0, 1, 2)


def lightvit_parts(dataset: str) -> dict[str, Any]:
    """Cost and test accuracy of every candidate on `dataset`, a run for each seed."""
    splits = {split: data.load(dataset, split) for split in data.SPLITS}
    rows: dict[str, dict[str, Any]] = {
        label: {"model": name, "arguments": arguments, "lr": lr, "runs": []}
        for label, (name, arguments, lr) in CANDIDATES.items()}
    for seed in SEEDS:
        for label, (name, arguments, lr) in CANDIDATES.items():
            torch.manual_seed(seed)
            model = models.create_model(name, **arguments)
            cost = profiling.count(model, (3, 32, 32))
            rows[label] |= {"params": cost.params, "macs": cost.macs}
            rows[label]["runs"].append(_run(model, splits, lr, seed))
            print(f"{dataset}, {label}, seed {seed}: {rows[label]['runs'][-1]}", flush=True)
    return {"dataset": dataset, "train_pictures": len(splits["train"]), **SETTINGS, "candidates": rows}


def _run(model: torch.nn.Module, splits: dict[str, data.Pictures], lr: float, seed: int) -> dict[str, Any]:
    start = time.process_time()      # of one thread: a run beside busy neighbours costs what it costs alone, or nearly
    history = training.fit(model, splits["train"], lr=lr, seed=seed, validation=splits["val"], checks=4, threads=1,
                           precision="float32", attention="fused", progress=False, **SETTINGS)
    cpu_seconds = time.process_time() - start
    score = training.evaluate(model, splits["test"])
    return {"seed": seed, "cpu_seconds": round(cpu_seconds, 1), "test": round(score.accuracy, 4),
            "validation": [[step, round(check.accuracy, 4)] for step, check in history.scores]}
