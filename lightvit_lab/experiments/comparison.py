"""Candidates trained alike and scored: what most studies do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .. import data, models, profiling, training

Candidate = tuple[str, dict[str, Any], dict[str, Any]]   # model, its arguments, what is its own in the call of `fit`


def compare(candidates: Mapping[str, Candidate], splits: Mapping[str, data.Pictures], seeds: Iterable[int],
            **settings: Any) -> dict[str, dict[str, Any]]:
    """Per label the model's cost for one picture and a `scored_run` for each seed, `settings` and its own given to `fit`.

    With one seed all candidates see the same pictures in the same order.
    """
    size = tuple(splits["train"].pixels.shape[-2:])
    rows = {label: {"model": name, "arguments": arguments, **own, "runs": []}
            for label, (name, arguments, own) in candidates.items()}
    for seed in seeds:
        for label, (name, arguments, own) in candidates.items():
            torch.manual_seed(seed)
            model = models.create_model(name, **arguments)
            cost = profiling.count(model, (3, *size))
            rows[label] |= {"params": cost.params, "macs": cost.macs}
            rows[label]["runs"].append(scored_run(model, splits, seed, **settings, **own))
            print(f"{label}, seed {seed}: test {rows[label]['runs'][-1]['test']}", flush=True)
    return rows


def scored_run(model: nn.Module, splits: Mapping[str, data.Pictures], seed: int, **settings: Any) -> dict[str, Any]:
    """Train on `train`, score on `val` on the way (`checks` times), and once, at the end, on `test`."""
    start = time.process_time()      # of the processor: nearer to what a run costs alone than the clock on the wall
    history = training.fit(model, splits["train"], seed=seed, validation=splits["val"], precision="float32",
                           attention="fused", **settings)
    cpu_seconds = time.process_time() - start
    score = training.evaluate(model, splits["test"])
    return {"seed": seed, "seconds": round(history.seconds, 1), "cpu_seconds": round(cpu_seconds, 1),
            "test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4),
            "validation": [[step, round(check.accuracy, 4)] for step, check in history.scores]}
