"""Light models of one size of picture: estimated, counted and timed, for `chapters/foundations/measuring_efficiency`.

Their published figures are in `survey.published`. All are timed in one run, taking turns, with fresh weights (time does
not hang on them): one picture, a batch, and one picture in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import models, profiling, survey
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device

BATCH = 64
SECONDS = {"one": 60.0, "batch": 300.0, "bfloat16": 60.0}      # budgets; the measurement ends earlier if it is precise


def light_models() -> dict[str, Any]:
    """Counts and times of every published light model below 2 GMACs."""
    names = [row.model.partition(".")[0] for row in survey.published() if row.macs_g < 1.9]
    found = {name: models.create_model(name, num_classes=1000).eval() for name in names}
    rows: dict[str, dict[str, Any]] = {}
    for name, model in found.items():
        cost = profiling.count(model)
        rows[name] = {"params": cost.params, "macs": cost.macs, "weight_bytes": cost.weight_bytes,
                      "activation_bytes": cost.activation_bytes, "layers_alone": layers_alone(model)}
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 224, 224)
    conditions: dict[str, Any] = {}
    for label, inputs, dtype in (("one", picture, torch.float32), ("batch", picture.repeat(BATCH, 1, 1, 1), torch.float32),
                                 ("bfloat16", picture, torch.bfloat16)):
        times = profiling.measure({name: model.to(dtype) for name, model in found.items()}, inputs.to(dtype),
                                  budget_s=SECONDS[label], threads=1)
        print(times.table(), flush=True)
        conditions[label] = {"stopped": times.stopped, "rounds": times[names[0]].rounds, **times.conditions}
        for name, one in times.items():
            rows[name][label] = {"latency_ms": one.latency_ms, "interval_ms": one.interval_ms, "p90_ms": one.p90_ms,
                                 "peak_memory_mib": one.peak_memory_mib}
    return {"batch_size": BATCH, "models": rows, "conditions": conditions}


def layers_alone(model: nn.Module, size: int = 224) -> int:
    """MACs as hooks see them, and as one estimates from a table of layers: linear layers and convolutions, no attention."""
    seen = []

    def count(layer: nn.Module, _given: tuple, _keywords: dict, output: Tensor) -> None:
        seen.append(output.numel() * layer.weight[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    with on_device(model), hooked([Hook(layer, "output", count) for layer in layers]):
        model(as_input(model, torch.zeros(1, 3, size, size)))
    return sum(seen)
