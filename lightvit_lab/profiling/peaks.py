"""What this machine does at most: matrix products and bytes per second, and a card of both."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from .. import storage
from ..errors import LabError, plain_numbers, require_range
from ..runtime import cache, device, hardware_name, versions
from ..runtime.running import on_device, synchronize

_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}     # of the square matrices
_COPIED = {"cpu": 2**28, "cuda": 2**30}         # bytes, far more than any cache holds


@dataclass(frozen=True)
class Peaks:
    """Best measured rates: FLOP/s of a square matrix product, bytes/s of a copy, read and written.

    A share of these is a share of what torch reaches here, not of what the maker of the chip
    promises. The copy counts two bytes for each one copied, as STREAM does; a processor that first
    reads what it overwrites moves more.
    """

    flops_s: float
    bytes_s: float
    dtype: str
    threads: int
    device: str

    @property
    def ridge(self) -> float:
        """FLOPs per byte from which the products, and no longer the memory, set the limit."""
        return self.flops_s / self.bytes_s

    def attainable(self, intensity: float) -> float:
        """FLOP/s that work of `intensity` FLOPs per byte can reach (Williams et al., 2009)."""
        return min(self.flops_s, intensity * self.bytes_s)


def device_clock() -> Callable[[], float]:
    """A clock in seconds that is read once the device has done all that it was given.

    The device is looked up here and not at each reading: that takes longer than many a module.
    """
    place = device()

    def waiting_clock() -> float:
        synchronize(place)
        return time.perf_counter()
    return time.perf_counter if place.type == "cpu" else waiting_clock


@plain_numbers
@torch.inference_mode()
def machine_peaks(dtype: torch.dtype = torch.float32, seconds: float = 2.0) -> Peaks:
    """Measure `runtime.device()` at the current number of threads, for about `seconds` in all.

    Products are measured in `dtype` as torch is set to run them (on a GPU, TF32 only where it was
    allowed); the best of all repetitions counts, since neighbours can only slow a machine down.
    Raises LabError on types it cannot multiply.
    """
    require_range("machine_peaks", "seconds", seconds, 0)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise LabError(f"machine_peaks: dtype={dtype!r}; give a floating-point type, e.g. "
                       "torch.float32 or torch.bfloat16")
    try:
        flops_s = _matrix_peak(dtype, seconds / 2)
    except RuntimeError as error:
        raise LabError(f"machine_peaks: {hardware_name()} multiplies no matrices of dtype={dtype} "
                       f"here ({error}); torch.float32 always works") from error
    return Peaks(flops_s, _copy_peak(seconds / 2), str(dtype).removeprefix("torch."),
                 torch.get_num_threads(), hardware_name())


def _matrix_peak(dtype: torch.dtype, seconds: float) -> float:
    best, sizes = 0.0, _SIZES[_kind()]
    for size in sizes:
        flops, budget_s = 2 * size**3, seconds / len(sizes)
        if best and flops / best > budget_s:    # too slow a machine, or type, for this size
            break
        left, right = (torch.rand(size, size, device=device()).to(dtype) for _ in range(2))
        best = max(best, flops / _least_seconds(lambda: left @ right, budget_s))  # noqa: B023
    return best


def _copy_peak(seconds: float) -> float:
    # Ones, not zeros: pages that were never written to are one page, which stays in the cache.
    source, target = (torch.ones(_COPIED[_kind()] // 4, device=device()) for _ in range(2))
    return 2 * source.nbytes / _least_seconds(lambda: target.copy_(source), seconds)


def _kind() -> str:
    return "cuda" if device().type == "cuda" else "cpu"


def _least_seconds(call: Callable[[], Any], budget_s: float) -> float:
    call()
    clock, least = device_clock(), float("inf")
    now = clock()
    end = now + budget_s
    while least == float("inf") or now < end:
        start = clock()
        call()
        now = clock()
        least = min(least, now - start)
    return least


def machine_card(refresh: bool = False) -> dict[str, Any]:
    """Peaks of this machine at one thread and at all, in float32 and, where it can, bfloat16.

    `peaks` holds one dict per measurement; `Peaks(**card["peaks"][0])` makes a Peaks of it. The
    card also has date and versions. Measuring takes about ten seconds, once: the card is stored in
    `runtime.cache()` and read back while device, processors and torch are the same. `refresh=True`
    measures anew, which a card made during other work needs: where all threads reach no more than
    one, neighbours had the other processors. A cache that cannot be written costs a warning, and
    the time at each start.
    """
    path = cache() / f"machine_{device().type}.json"
    card = None if refresh else _read(path)
    if card is None:
        card = _measured_card()
        _write(path, card)
    return card


def _measured_card() -> dict[str, Any]:
    peaks = []
    counts = {1, _processors()} if device().type == "cpu" else {torch.get_num_threads()}
    for threads in sorted(counts):
        for dtype in (torch.float32, torch.bfloat16):
            with on_device(threads=threads), suppress(LabError):    # a type not multiplied here
                peaks.append(asdict(machine_peaks(dtype)))
    return {**_identity(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(), "peaks": peaks}


def _identity() -> dict[str, Any]:
    return {"device": hardware_name(), "processors": _processors()}


def _processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _read(path: Path) -> dict[str, Any] | None:
    """The card, if there is one, whole and of this machine."""
    try:
        card = storage.read_json("machine_card", path, "it is measured anew")
        ours = card | _identity() == card and card["versions"]["torch"] == versions()["torch"]
        whole = card["date"] and card["peaks"]
        whole = whole and all(Peaks(**peaks).ridge > 0 for peaks in card["peaks"])
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
    return card if ours and whole else None


def _write(path: Path, card: dict[str, Any]) -> None:
    try:
        storage.write_json("machine_card", path, card, make_folder=True)
    except LabError as error:
        warnings.warn(f"the card of this machine cannot be kept ({error}), so the next start "
                      "measures again; set LIGHTVIT_CACHE to a folder that can be written",
                      stacklevel=3)
