"""Device, cache, versions, and the guard that lets timm be imported next to a CPU-only torch.

Imports torch only inside.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import LabError

if TYPE_CHECKING:
    import torch

_library = None   # keeps the operator names of ensure_torchvision alive


def device() -> "torch.device":
    """The device to run on: `LIGHTVIT_DEVICE` if set, else cuda, else cpu.

    Raises LabError if `LIGHTVIT_DEVICE` is no name of a device.
    """
    import torch

    chosen = os.environ.get("LIGHTVIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(chosen)
    except RuntimeError as error:
        raise LabError(f"LIGHTVIT_DEVICE={chosen!r} is no device that torch knows; give cpu, cuda, "
                       "cuda:1 (the second card) or mps (Apple), or unset it") from error


def device_name() -> str:
    """The device in words, as it is written next to every measured number."""
    import torch

    kind, threads = device().type, torch.get_num_threads()
    if kind == "cuda":
        return hardware_name()
    words = f"{threads} thread{'s' if threads > 1 else ''}" if kind == "cpu" else kind
    return f"{hardware_name()}, {words}"


def hardware_name() -> str:
    """The GPU or the processor that `device()` stands for, whatever the number of threads."""
    import platform

    import torch

    if device().type == "cuda":
        return torch.cuda.get_device_name()
    return cpu_name() or platform.processor() or platform.machine()


def cpu_name() -> str:
    """The processor's own name where the system tells it (Linux, macOS), else an empty string."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
            return names[0].strip() if names else ""
    except OSError:
        return ""


def _output(*command: str) -> str:
    """What a command of the system prints, an empty string if it fails."""
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def cache() -> Path:
    """The user's cache, absolute: `LIGHTVIT_CACHE`, else `~/.cache/lightvit_lab`."""
    folder = os.environ.get("LIGHTVIT_CACHE") or Path.home() / ".cache" / "lightvit_lab"
    return Path(folder).expanduser().absolute()


def file_path(path: str | os.PathLike) -> Path:
    """The path that a public function was given, its `~` replaced by the user's home."""
    return Path(os.path.expanduser(path))


def versions() -> dict[str, str]:
    """Version of Python and of the packages that a measured number depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for name in ("lightvit-lab", "torch", "torchvision", "timm", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def ensure_torchvision() -> str:
    """Make `import torchvision` (and so timm) work; return "native" or "python-only".

    A CPU build of torch beside a torchvision compiled for CUDA cannot load torchvision's compiled
    part, and `import torchvision` then fails on two operators that do not exist. This declares
    their names, nothing more: what needs the compiled part (`ops.nms`, `io.decode_image`) still
    raises. Silent where torchvision is healthy.
    """
    global _library
    if _library is not None:
        return "python-only"
    try:
        import torchvision  # noqa: F401
        return "native"
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
    return "python-only"


def commit() -> str:
    """The checkout's commit, with "+" where the library differs from it, or "unknown"."""
    git = ("git", "-C", str(Path(__file__).resolve().parents[2]))
    head = _output(*git, "rev-parse", "HEAD")
    changes = _output(*git, "status", "--porcelain", "--", "lightvit_lab")
    return f"{head}+" if head and changes else head or "unknown"


def import_all(package: ModuleType) -> list[ModuleType]:
    """Import every module below `package`, by name, so that what registers itself is known."""
    return [importlib.import_module(about.name)
            for about in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
