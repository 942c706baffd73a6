"""How long it takes: candidates in turns, medians with intervals, never one after the other.

On a shared machine a neighbour's work moves every number of a run by a factor; taking turns moves all candidates alike.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import LabError, require_range
from ..runtime import device, device_name


@dataclass(frozen=True)
class Timing:
    """Median time of one call in milliseconds, the 95 % interval of that median, and where it was measured."""

    latency_ms: float
    interval_ms: tuple[float, float]
    throughput_img_s: float
    rounds: int
    machine: str


@torch.inference_mode()
def measure(models: dict[str, nn.Module], inputs: Tensor | dict[str, Tensor], budget_s: float = 5.0,
            max_rounds: int = 200) -> dict[str, Timing]:
    """Time each model's forward on `inputs` (one batch for all, or one per label), in rounds that take turns.

    Two rounds warm up; then rounds go on until `budget_s` seconds are spent or `max_rounds` are done, at least 5.
    Models are put into eval mode on `runtime.device()`. Raises LabError when there is nothing to time.
    """
    if not models:
        raise LabError('measure: no models were given; give {"label": model}')
    require_range("measure", "budget_s", budget_s, 0.0)
    calls = {label: (model.to(device()).eval(), _batch(inputs, label)) for label, model in models.items()}
    seconds: dict[str, list[float]] = {label: [] for label in models}
    for _ in range(2):
        _round(calls, {label: [] for label in models})
    start, rounds = time.perf_counter(), 0
    while rounds < 5 or (rounds < max_rounds and time.perf_counter() - start < budget_s):
        _round(calls, seconds)
        rounds += 1
    return {label: _summary(seconds[label], len(batch)) for label, (_, batch) in calls.items()}


def _batch(inputs: Tensor | dict[str, Tensor], label: str) -> Tensor:
    if isinstance(inputs, dict):
        if label not in inputs:
            raise LabError(f"measure: inputs hold no batch for {label!r}; they hold {sorted(inputs)}")
        inputs = inputs[label]
    return inputs.to(device())


def _round(calls: dict[str, tuple[nn.Module, Tensor]], seconds: dict[str, list[float]]) -> None:
    for label, (model, batch) in calls.items():
        _synchronize()
        start = time.perf_counter()
        model(batch)
        _synchronize()
        seconds[label].append(time.perf_counter() - start)


def _synchronize() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def _summary(seconds: list[float], batch_size: int) -> Timing:
    ordered = sorted(seconds)
    low, high = median_ranks(len(ordered))
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return Timing(median * 1e3, (ordered[low] * 1e3, ordered[high] * 1e3), batch_size / median, len(ordered), device_name())


def median_ranks(count: int) -> tuple[int, int]:
    """0-based ranks between which the median of `count` sorted samples lies with at least 95 % (binomial, no normality)."""
    tail, low = 0.0, 0
    for successes in range(count // 2):
        tail += math.comb(count, successes) / 2**count
        if tail > 0.025:
            break
        low = successes + 1
    low = max(0, low - 1)
    return low, count - 1 - low
