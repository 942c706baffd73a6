"""`load()` gives PyTorch a second device, "lab", made of the processor's memory.

second_device.cpp says how. `LIGHTVIT_DEVICE=lab` then sends the library's work there. With
LAB_NO_FLOAT64=1 it refuses float64, as Apple's does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import torch

SOURCE = Path(__file__).with_suffix(".cpp")
BUILT = Path(__file__).resolve().parents[2] / "_build" / "devices"


def compiler() -> str | None:
    """The C++ compiler to build with: CXX, else g++ or clang++; None where there is none."""
    return next(
        (
            path
            for name in (os.environ.get("CXX"), "g++", "clang++")
            if name and (path := shutil.which(name))
        ),
        None,
    )


@functools.cache
def load() -> types.ModuleType:
    """Build the device where that was not done yet, register it once, and return `torch.lab`."""
    torch.ops.load_library(str(build()))
    torch.utils.rename_privateuse1_backend("lab")
    module = device_module()
    torch._register_device_module("lab", module)
    module.refuse_float64(os.environ.get("LAB_NO_FLOAT64") == "1")
    return module


def build() -> Path:
    """Compile the source for this PyTorch (under a minute), unless that was done before."""
    key = hashlib.sha256(
        SOURCE.read_bytes() + f"{torch.__version__} {sys.platform}".encode()
    ).hexdigest()[:16]
    library = BUILT / f"second_device-{key}.so"
    if not library.is_file():
        BUILT.mkdir(parents=True, exist_ok=True)
        beside = library.with_suffix(f".{os.getpid()}")
        subprocess.run(command(beside), check=True)
        os.replace(beside, library)
    return library


def command(target: Path) -> list[str]:
    """What compiles the source into the library `target`."""
    root = Path(torch.__file__).parent
    abi = int(torch._C._GLIBCXX_USE_CXX11_ABI)
    return [
        compiler(),
        "-O1",
        "-std=c++20",
        "-fPIC",
        "-shared",
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
        "-w",
        f"-I{root / 'include'}",
        f"-I{root / 'include/torch/csrc/api/include'}",
        str(SOURCE),
        "-o",
        str(target),
        f"-L{root / 'lib'}",
        "-ltorch_cpu",
        "-lc10",
        f"-Wl,-rpath,{root / 'lib'}",
    ]


def device_module() -> types.ModuleType:
    """What PyTorch looks for under `torch.lab`, and what tests ask it.

    `pending()`: whether anything was started since the device was last waited for;
    `synchronized()`, `operators()`: how often it was waited for, and how many operators ran on it;
    `refuse_float64(flag)`.
    """
    lab, module = torch.ops.lab, types.ModuleType("torch.lab")
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda device: None
    module.device = lambda device: contextlib.nullcontext()
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.synchronize = lambda device=None: lab.synchronize()
    for name in ("pending", "synchronized", "operators", "refuse_float64"):
        setattr(module, name, getattr(lab, name))
    module.manual_seed = module.manual_seed_all = lambda seed: lab.seed(
        (seed + 2**63) % 2**64 - 2**63
    )  # as C++ has it
    module.get_rng_state = lambda device="lab": lab.random_state()
    module.set_rng_state = lambda state, device="lab": lab.set_random_state(state)
    return module
