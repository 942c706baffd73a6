"""Which batch gives the most images a second: doubled until it no longer pays, or memory ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from ..runtime import device_name
from ..runtime.running import as_input, on_device
from .timing import timed

PAYS = 1.03      # a doubled batch has to bring 3 %; two in a row that do not end the search


@dataclass(frozen=True)
class BatchSearch:
    """The best batch and its images/s, those of every batch tried, why it ended, and where."""

    batch: int
    throughput_img_s: float
    tried: dict[int, float]
    stopped: str
    machine: str


@plain_numbers
def best_batch(model: nn.Module, image: Tensor, largest: int = 1024, budget_s: float = 20.0,
               rounds: int = 5) -> BatchSearch:
    """Time batches of 1, 2, 4, ... copies of `image` (1, channels, height, width).

    Each gets the median of `rounds` calls. Ends at `largest`, after `budget_s` seconds, when memory
    runs out, or when doubling has twice brought less than 3 %. Raises LabError unless `image` is a
    single one.
    """
    if image.ndim != 4 or len(image) != 1:
        raise LabError(f"best_batch: image has shape {tuple(image.shape)}; give one image, "
                       "(1, channels, height, width)")
    require_range("best_batch", "largest", largest, 1)

    def speed(batch: int) -> float:
        images = image.repeat(batch, 1, 1, 1)
        model(images)
        return batch / median(timed(model, images) for _ in range(rounds))

    # In this order: weights move before inference mode.
    with on_device(model) as place, torch.inference_mode():
        image = as_input(model, image, place)
        return _search(speed, largest, budget_s)


def _search(speed: Callable[[int], float], largest: int, budget_s: float) -> BatchSearch:
    tried: dict[int, float] = {}
    batch, end, stopped, idle = 1, time.perf_counter() + budget_s, "", 0
    while not stopped:
        best = max(tried.values(), default=0.0)
        try:
            tried[batch] = speed(batch)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not tried or not _is_out_of_memory(error):
                raise
            stopped = f"memory ended at a batch of {batch}"
            break
        idle = 0 if tried[batch] > PAYS * best else idle + 1
        batch *= 2
        if idle == 2:
            stopped = "doubling no longer pays"
        elif time.perf_counter() > end:
            stopped = f"{budget_s:g} s were spent"
        elif batch > largest:
            stopped = "the largest batch was reached"
    best = max(tried, key=lambda size: tried[size])
    return BatchSearch(best, tried[best], tried, stopped, device_name())


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA has an error of its own; a CPU's allocator raises a plain RuntimeError that says so."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
