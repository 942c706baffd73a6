"""`lightvit-lab doctor`: what is installed, what this machine has, and the command that mends each
failing line.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .. import __version__, runtime
from ..errors import LabError

PACKAGE = "lightvit-lab"
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8")
# where `data` looks for each set, below LIGHTVIT_DATA and the cache; the usual one first
DATA_FOLDERS = {
    "fashion_mnist": ("fashion_mnist", "FashionMNIST/raw"),
    "cifar10": ("cifar10_jpeg", "cifar10", "cifar-10-batches-py", "cifar-10-binary.tar.gz"),
    "flowers": ("flower_photos_128", "flowers", "flower_photos", "flower_photos.tgz"),
}
ENOUGH_GIB = 2.0   # a page with its data sets and the execution cache stay well below
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<bound>[^;]*?)\s*(?:;.*extra == ['\"](?P<extra>[\w-]+)['\"].*)?")


@dataclass(frozen=True)
class Line:
    """One finding: status "ok", "missing", "optional" or "unfit", what it is, how to mend it.
    `core`: needed by all.
    """

    status: str
    text: str
    mend: str = ""
    core: bool = False

    def __str__(self) -> str:
        text = f"  {f'[{self.status}]':<11}{self.text}"
        return f"{text}\n             -> {self.mend}" if self.mend else text


def main() -> int:
    """Print the whole report; returns 1 if something of the core is missing or unfit, else 0."""
    print(f"LightViT Lab {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    failing = 0
    for title, lines in _sections():
        print(f"\n{title}", flush=True)
        for line in lines:
            print(line, flush=True)
            failing += line.core and line.status != "ok"
    print("\nThe core is complete." if not failing else f"\n{failing} of the core to mend: run the commands after ->")
    return int(failing > 0)


def _sections() -> Iterator[tuple[str, Iterator[Line]]]:
    yield "Packages", packages(core=True)
    yield "Packages of the extras", packages(core=False)
    yield "Machine", machine()
    yield "Data and disk", data_and_disk()


# --- packages

def packages(core: bool) -> Iterator[Line]:
    """One line per required package: those of the core, or those of the extras."""
    try:
        wanted = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        if core:
            yield Line("missing", f"{PACKAGE} itself is not installed, only its files are on the path",
                       _pip("-e", str(Path(__file__).parents[2])), core=True)
        return
    for requirement in wanted:
        found = _REQUIREMENT.fullmatch(requirement)
        if found and found["name"] != PACKAGE and (found["extra"] is None) == core:
            yield _package(found["name"], found["bound"], found["extra"])


def _package(name: str, bound: str, extra: str | None) -> Line:
    """A package with its version, and whether that lies within the bounds asked for."""
    label = f"{name} ({extra})" if extra else name
    mend = _pip(f"{name}{bound}")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Line("optional" if extra else "missing", f"{label} is not installed", mend, core=not extra)
    if not _within(version, bound):
        return Line("unfit", f"{label} {version}, but {bound} is needed", mend, core=not extra)
    return Line("ok", f"{label} {version}", core=not extra)


def _within(version: str, bound: str) -> bool:
    """Whether a version keeps the bounds; taken for granted where `packaging` is not at hand to
    tell.
    """
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(bound).contains(version, prereleases=True)


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


# --- machine

def machine() -> Iterator[Line]:
    """Device, threads, instruction sets and the way torchvision loads; without torch, what can be
    told without it.
    """
    torch_line = _import_torch()
    if torch_line is None:
        yield _device()
        yield _threads()
        yield _torchvision()
    else:
        yield torch_line
    yield _instruction_sets()


def _import_torch() -> Line | None:
    """None where torch can be imported, else the line that says why not."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:   # OSError: one of its libraries does not load
        text = f"torch cannot be imported ({error}), so device, threads and torchvision stay unknown"
        return Line("missing", text, _pip("--force-reinstall", "torch"), core=True)
    return None


def _device() -> Line:
    """The device in use, as LIGHTVIT_DEVICE and torch settle it."""
    import torch

    try:
        chosen = runtime.device()
        torch.zeros(1, device=chosen)
        name = runtime.device_name()
    except (LabError, RuntimeError, AssertionError) as error:
        return Line("unfit", f"device: LIGHTVIT_DEVICE={os.environ.get('LIGHTVIT_DEVICE', '')} cannot be used "
                    f"({str(error).splitlines()[0]})", "unset LIGHTVIT_DEVICE")
    if chosen.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        return Line("optional", f"device: cpu, {name}; a GPU's driver is here, but this torch was built without CUDA",
                    _pip("--force-reinstall", "torch", "torchvision") + "   (a torch with CUDA, from PyPI)")
    apple = chosen.type == "cpu" and torch.backends.mps.is_available()
    return Line("ok", f"device: {chosen.type}, {name}" + "; LIGHTVIT_DEVICE=mps takes its GPU" * apple)


def _threads() -> Line:
    import torch

    return Line("ok", f"threads: torch uses {torch.get_num_threads()} of {os.cpu_count()} logical cores "
                "(OMP_NUM_THREADS sets it)")


def _torchvision() -> Line:
    """Which part of torchvision loads: timm needs it to be importable."""
    try:
        mode = runtime.ensure_torchvision()
    except (ImportError, RuntimeError) as error:
        return Line("missing", f"torchvision cannot be imported ({str(error).splitlines()[0]}), and timm needs it",
                    _pip("torchvision"), core=True)
    what = "whole" if mode == "native" else "its compiled part does not fit this torch; the book does not need it"
    return Line("ok", f"torchvision {metadata.version('torchvision')}: {mode} ({what})")


def _instruction_sets() -> Line:
    """What makes 8 and 16 bit numbers fast on a CPU, from the system, or else as torch sums it up."""
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return Line("ok", f"instruction sets: {_capability()}")
    flags = found.group(1).split()
    here = [name for name in INSTRUCTION_SETS if name in flags]
    absent = [name for name in INSTRUCTION_SETS if name not in flags]
    return Line("ok", f"instruction sets: {', '.join(here) or 'none of the list'}"
                + (f"; not here: {', '.join(absent)}" if absent else ""))


def _capability() -> str:
    try:
        from torch.backends import cpu
    except ImportError:
        return "unknown"
    return cpu.get_cpu_capability()


# --- data and disk

def data_and_disk() -> Iterator[Line]:
    """The data sets found where `data.load` looks, and the room on the disks it and a build write
    to.
    """
    folder, cache = os.environ.get("LIGHTVIT_DATA"), Path.home() / ".cache"
    try:
        from .. import data

        cache = data.cache()
        known = set(data.names())
        yield from _data_folder(folder, data.root(), known)
        yield _sets("cache", cache, known)
    except ImportError as error:
        yield Line("optional", f"data sets not looked for ({error})", "mend the packages above, then run this again")
    except LabError as error:
        yield Line("missing", str(error), "unset LIGHTVIT_DATA   (or export it with the right folder)")
    yield _disk("cache", cache)
    yield _disk("here", Path.cwd())


def _data_folder(given: str | None, root: Path | None, known: set[str]) -> Iterator[Line]:
    """The folder that LIGHTVIT_DATA names; where it is not set, how to set it."""
    if root is None:
        yield Line("optional", "LIGHTVIT_DATA is not set: pages run on pictures that need no download",
                   "export LIGHTVIT_DATA=/absolute/folder/of/data/sets")
    else:
        expected = ", ".join(f"{root / places[0]}" for name, places in DATA_FOLDERS.items() if name in known)
        yield _sets(f"LIGHTVIT_DATA={given}, that is", root, known, f"put one of {expected} there")


def _sets(label: str, root: Path, known: set[str], mend: str = "") -> Line:
    """Which of the known sets a folder holds; holding none is in order unless there is something to
    `mend`.
    """
    found = [name for name, places in DATA_FOLDERS.items()
             if name in known and any((root / place).exists() for place in places)]
    if not found:
        return Line("optional" if mend else "ok", f"{label} {root}: no data set", mend)
    return Line("ok", f"{label} {root}: {', '.join(found)}")


def _disk(label: str, path: Path) -> Line:
    """Free room where `path` is, or would be."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free_gib = shutil.disk_usage(there).free / 2**30
    text = f"disk, {label} ({path}): {free_gib:.1f} GiB free"
    if free_gib < ENOUGH_GIB:
        return Line("unfit", f"{text}, less than the {ENOUGH_GIB:g} GiB a build may need",
                    f"make room; du -sh {shlex.quote(str(there))}/* shows what is large")
    return Line("ok", text)
