"""Light models of one size of picture: estimated, counted and timed.

`chapters/foundations/measuring_efficiency` shows what this study stores, beside the figures that
were published (`survey.published`). All are timed in one run, taking turns, with fresh weights
(time does not hang on them): one picture, a batch, and one picture in bfloat16. They are counted as
they are trained, as what was published is, and timed with norms and branches merged where timm can;
some (EfficientFormerV2, EfficientViT-B0, SwiftFormer, XCiT, LightViT) keep norms that could be.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import models, profiling, survey
from ..models.timm_parts import reparameterize_model as merged
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from .kit import Study

BATCH = 64
# Pictures a call, their type, and seconds; the measurement ends earlier if it is precise.
CONDITIONS = {"one": (1, torch.float32, 60.0), "batch": (BATCH, torch.float32, 300.0),
              "bfloat16": (1, torch.bfloat16, 60.0)}
COSTS = ("params", "macs", "weight_bytes", "activation_bytes")
TIMES = ("latency_ms", "interval_ms", "p90_ms", "peak_memory_mib")


def light_models(_study: Study) -> dict[str, Any]:
    """Counts and times of every published light model below 2 GMACs."""
    names = [row.model.partition(".")[0] for row in survey.published() if row.macs_g < 1.9]
    candidates = {name: models.create_model(name, num_classes=1000).eval() for name in names}
    rows = {name: {**_parts(profiling.count(model), COSTS), "layers_alone": layers_alone(model)}
            for name, model in candidates.items()}
    candidates = {name: merged(model) for name, model in candidates.items()}
    torch.manual_seed(0)
    picture, conditions = torch.randn(1, 3, 224, 224), {}
    for label, (size, dtype, budget_s) in CONDITIONS.items():
        inputs = picture.repeat(size, 1, 1, 1).to(dtype)
        times = profiling.measure({name: model.to(dtype) for name, model in candidates.items()},
                                  inputs, budget_s, threads=1)
        print(times.table(), flush=True)
        conditions[label] = {"stopped": times.stopped, "rounds": times[names[0]].rounds,
                             **times.conditions}
        for name, one in times.items():
            rows[name][label] = _parts(one, TIMES)
    return {"batch_size": BATCH, "models": rows, "conditions": conditions}


def _parts(measured: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(measured, name) for name in names}


def layers_alone(model: nn.Module, size: int = 224) -> int:
    """MACs as hooks count them: linear layers and convolutions, without attention's products."""
    macs = []

    def count(layer: nn.Module, _arguments: tuple, _keywords: dict, output: Tensor) -> None:
        macs.append(output.numel() * layer.weight[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    with on_device(model), hooked([Hook(layer, "output", count) for layer in layers]):
        model(as_input(model, torch.zeros(1, 3, size, size)))
    return sum(macs)


STUDIES = (Study("light_models", light_models),)
