"""What only a GPU can answer: LightViT in bfloat16, and merging beside attention that is fused.

`make reference` runs it on a machine with a GPU; the result is stored with the device's name.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from .. import models, profiling
from ..dynamic.token_merging import merge_tokens
from ..errors import LabError
from ..runtime import device
from ..training.probing import attention_switches
from .kit import Study, speed

NAME, LARGE = "gpu_speed", "deit_small_patch16_224"
LIGHT = ("lightvit_tiny", "lightvit_small", "pvt_v2_b0", "deit_tiny_patch16_224", "levit_128s")
MERGED = {224: 13, 384: 38}      # pixels -> tokens merged in each block of DeiT-S


def gpu_speed(batch: int = 64, budget_s: float = 20.0, sizes: dict[int, int] = MERGED,
              light: tuple[str, ...] = LIGHT, large: str = LARGE) -> dict[str, Any]:
    """Times of `light` models in float32 and bfloat16; of `large`, merged or not, fused or not.

    Raises LabError where there is no GPU.
    """
    if device().type == "cpu":
        raise LabError(f"{NAME}: there is no GPU here (runtime.device() is cpu); run "
                       "`make reference` on a machine that has one")
    return {"batch_size": batch, "light": _light_models(light, batch, budget_s),
            "merging": [_merging(large, size, r, batch, budget_s) for size, r in sizes.items()]}


def _light_models(names: tuple[str, ...], batch: int, budget_s: float) -> dict[str, Any]:
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        candidates = {name: models.create_model(name).to(dtype) for name in names}
        for size in (1, batch):
            inputs = torch.randn(size, 3, 224, 224, dtype=dtype)
            label = f"{str(dtype).removeprefix('torch.')}, {size}"
            rows[label] = _times(candidates, names[0], inputs, budget_s)
    return rows


def _merging(name: str, size: int, r: int, batch: int, budget_s: float) -> dict[str, Any]:
    torch.manual_seed(0)
    whole = models.create_model(name, img_size=size).bfloat16()
    pair = {"whole": whole, "merged": merge_tokens(whole, r)}
    candidates = {f"{label}, {how}": _attending(model, how)
                  for label, model in pair.items() for how in ("fused", "written out")}
    inputs = torch.randn(batch, 3, size, size, dtype=torch.bfloat16)
    macs = {label: profiling.count(model, (3, size, size)).macs for label, model in pair.items()}
    return {"image_size": size, "r": r, "macs": macs,
            "times": _times(candidates, "whole, fused", inputs, budget_s)}


def _attending(model: nn.Module, how: str) -> nn.Module:
    """A copy of `model` whose attention is "fused" or "written out"."""
    other = deepcopy(model)
    for module, switch in attention_switches(other):
        setattr(module, switch, how == "fused")
    return other


def _times(candidates: dict[str, nn.Module], base: str, inputs: torch.Tensor,
           budget_s: float) -> dict[str, Any]:
    """Latency and interval of each candidate, and how many times as fast as `base` it is."""
    times = profiling.measure(candidates, inputs, budget_s)
    rows = {label: {**speed(times, base, label, digits=4), "machine": one.machine,
                    "peak_memory_mib": one.peak_memory_mib} for label, one in times.items()}
    return {"rows": rows, "conditions": times.conditions, "stopped": times.stopped}


STUDIES = (Study(NAME, lambda _study: gpu_speed(), needs_gpu=True),)
