"""What a call takes beside time: memory; and the attention kernels that torch may choose from."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..runtime import device
from .counting import bytes_by_dtype

MIB = 2**20


def peak_memory_mib(model: nn.Module, batch: Tensor) -> float | None:
    """MiB of the model's weights and of what one call adds at most.

    From CUDA's allocator, or on Linux the resident set; None on other systems and devices.
    """
    added = None
    if batch.device.type == "cuda":
        added = _added_on_cuda(lambda: model(batch))
    if batch.device.type == "cpu":
        added = _added_to_resident_set(lambda: model(batch))
    return None if added is None else (sum(bytes_by_dtype(model).values()) + added) / MIB


def _added_on_cuda(call: Callable[[], object]) -> int:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _added_to_resident_set(call: Callable[[], object]) -> int | None:
    """The kernel's high-water mark, set back before the call.

    Memory that was freed, and that the process still has, is given back first.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError):      # no such C function (musl), or a container forbids it
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def attention_backend() -> str:
    """The kernels that `scaled_dot_product_attention` may choose from, as they are switched on."""
    if (kind := device().type) != "cuda":
        return f"fused on {kind.upper()}"
    cuda = torch.backends.cuda
    switches = {"flash": cuda.flash_sdp_enabled, "memory-efficient": cuda.mem_efficient_sdp_enabled,
                "cudnn": cuda.cudnn_sdp_enabled, "math": cuda.math_sdp_enabled}
    return "one of " + ", ".join(name for name, is_on in switches.items() if is_on())
