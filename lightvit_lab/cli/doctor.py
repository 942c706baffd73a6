"""`lightvit-lab doctor`: what is installed, what this machine has, and what mends what is not."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

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
BROWSERS = ("chromium", "chromium-browser", "google-chrome")    # any drives the PDF and the tests
ENOUGH_GIB = 2.0   # a page with its data sets and the execution cache stay well below
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<bound>[^;]*?)\s*"
                          r"(?:;.*extra == ['\"](?P<extra>[\w-]+)['\"].*)?")


class Line(NamedTuple):
    """One finding, and the command that mends it; `core`: of what every page needs."""

    status: str         # "ok", "missing", "optional" or "unfit"
    text: str
    mend: str = ""
    core: bool = False

    def __str__(self) -> str:
        text = f"  {f'[{self.status}]':<11}{self.text}"
        return f"{text}\n             -> {self.mend}" if self.mend else text


def main() -> int:
    """Print the whole report; returns 1 if something of the core is missing or unfit, else 0."""
    print(f"LightViT Lab {__version__}, Python {platform.python_version()}, "
          f"{platform.system()} {platform.machine()}")
    failing = 0
    for title, lines in (("Packages", packages(core=True)),
                         ("Packages of the extras", packages(core=False)),
                         ("Programs", programs()), ("Machine", machine()),
                         ("Data and disk", data_and_disk())):
        print(f"\n{title}", flush=True)
        for line in lines:
            print(line, flush=True)
            failing += line.core and line.status != "ok"
    print(f"\nTo repair: {failing}. Run the commands after -> and start the doctor again."
          if failing else "\nEverything that the pages need is here.")
    return int(failing > 0)


# --- packages

def packages(core: bool) -> Iterator[Line]:
    """One line per required package: those of the core, or those of the extras."""
    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        requirements = []
        if core:
            yield Line("missing", f"{PACKAGE} itself is not installed, only on the path",
                       _pip("-e", str(Path(__file__).parents[2])), core=True)
    for requirement in requirements:
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
        status = "optional" if extra else "missing"
        return Line(status, f"{label} is not installed", mend, core=not extra)
    if not _within(version, bound):
        return Line("unfit", f"{label} {version}, but {bound} is needed", mend, core=not extra)
    return Line("ok", f"{label} {version}", core=not extra)


def _within(version: str, bound: str) -> bool:
    """Whether a version is within `bound`; True where `packaging` is not installed to find out."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(bound).contains(version, prereleases=True)


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


# --- programs

def programs() -> Iterator[Line]:
    """What opens notebooks, and what the book is built, printed and seen with; all optional."""
    if find_spec("jupyterlab"):
        yield Line("ok", f"JupyterLab {metadata.version('jupyterlab')}")
    else:
        yield Line("optional", "JupyterLab, which `lightvit-lab open` uses, is not installed",
                   _pip("jupyterlab"))
    for name, found, use, mend in (
            ("npm", shutil.which("npm"), "a book built here loads formulas and widgets from public "
             "servers (CDNs)", "install Node.js, https://nodejs.org"),
            ("chromium", browser(), "`make pdf` and `make test-browser` need a browser",
             "apt-get install chromium   (or export CHROMIUM=/path/of/a/browser)")):
        yield (Line("ok", f"{name}: {found}") if found
               else Line("optional", f"{name} was not found: {use}", mend))


def browser() -> str | None:
    """The browser to drive: the program that `CHROMIUM` names, else one of BROWSERS."""
    names = [os.environ.get("CHROMIUM", ""), *BROWSERS]
    return next(filter(None, map(shutil.which, names)), None)


# --- machine

def machine() -> Iterator[Line]:
    """Device, threads, torchvision and instruction sets; without torch, the last alone."""
    try:
        import torch
    except (ImportError, OSError) as error:   # OSError: one of its libraries does not load
        yield Line("missing", f"torch cannot be imported ({error}), so device, threads and "
                   "torchvision are unknown", _pip("--force-reinstall", "torch"), core=True)
    else:
        yield _device()
        yield Line("ok", f"threads: torch uses {torch.get_num_threads()} of "
                         f"{os.cpu_count()} logical cores (OMP_NUM_THREADS sets it)")
        yield _torchvision()
    yield _instruction_sets()


def _device() -> Line:
    """The device in use, as LIGHTVIT_DEVICE and torch settle it."""
    import torch

    try:
        chosen = runtime.device()
        torch.zeros(1, device=chosen)
        name = runtime.device_name()
    except (LabError, RuntimeError, AssertionError) as error:
        given, reason = os.environ.get("LIGHTVIT_DEVICE", ""), str(error).splitlines()[0]
        return Line("unfit", f"device: LIGHTVIT_DEVICE={given} cannot be used ({reason})",
                    "unset LIGHTVIT_DEVICE")
    if chosen.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        mend = f"{_pip('--force-reinstall', 'torch', 'torchvision')}   (with CUDA, from PyPI)"
        return Line("optional", f"device: cpu, {name}; a GPU's driver is here, but this torch was "
                    "built without CUDA", mend)
    apple = chosen.type == "cpu" and torch.backends.mps.is_available()
    hint = "; set LIGHTVIT_DEVICE=mps to use its GPU" if apple else ""
    return Line("ok", f"device: {chosen.type}, {name}{hint}")


def _torchvision() -> Line:
    """Which part of torchvision loads: timm needs it to be importable."""
    try:
        mode = runtime.ensure_torchvision()
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Line("missing", f"torchvision cannot be imported ({reason}), and timm needs it",
                    _pip("torchvision"), core=True)
    what = ("whole" if mode == "native" else
            "its compiled part does not fit this torch; the book does not need it")
    return Line("ok", f"torchvision {metadata.version('torchvision')}: {mode} ({what})")


def _instruction_sets() -> Line:
    """What makes 8 and 16 bit numbers fast on a CPU, where the system lists it."""
    try:
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        listed = ""
    flags = re.search(r"^flags\s*:(.*)$", listed, re.MULTILINE)
    if flags is None:
        return Line("ok", "instruction sets: this system does not list them")
    here = [name for name in INSTRUCTION_SETS if name in flags[1].split()]
    absent = [name for name in INSTRUCTION_SETS if name not in here]
    return Line("ok", f"instruction sets: {', '.join(here) or 'none'}; "
                f"missing: {', '.join(absent) or 'none'}")


# --- data and disk

def data_and_disk() -> Iterator[Line]:
    """The data sets found where `data.load` looks, and the room on the disks written to."""
    cache = Path.home() / ".cache"
    try:
        from .. import data

        cache = data.cache()
        root = data.root()
    except ImportError as error:
        yield Line("optional", f"data sets were not looked for ({error})",
                   "install the packages above, then run this again")
    except LabError as error:
        yield Line("missing", str(error), "unset LIGHTVIT_DATA   (or export the right folder)")
    else:
        if root is None:
            yield Line("optional", "LIGHTVIT_DATA is not set: the pages use pictures that need no "
                       "download", "export LIGHTVIT_DATA=/absolute/folder/of/data/sets")
        else:
            usual = ", ".join(str(root / places[0]) for places in DATA_FOLDERS.values())
            given = f"LIGHTVIT_DATA={os.environ['LIGHTVIT_DATA']}, that is"
            yield _data_sets(given, root, f"put one of {usual} there")
        yield _data_sets("cache", cache)
    yield _disk("cache", cache)
    yield _disk("here", Path.cwd())


def _data_sets(label: str, root: Path, mend: str = "") -> Line:
    """Which data sets a folder holds; none is in order unless there is something to `mend`."""
    found = [name for name, places in DATA_FOLDERS.items()
             if any(map(Path.exists, map(root.joinpath, places)))]
    if not found:
        return Line("optional" if mend else "ok", f"{label} {root}: no data set", mend)
    return Line("ok", f"{label} {root}: {', '.join(found)}")


def _disk(label: str, path: Path) -> Line:
    """Free room where `path` is, or would be."""
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    text = f"disk, {label} ({path}): {free_gib:.1f} GiB free"
    if free_gib < ENOUGH_GIB:
        return Line("unfit", f"{text}, less than the {ENOUGH_GIB:g} GiB a build may need",
                    f"make room; du -sh {shlex.quote(str(folder))}/* shows what is large")
    return Line("ok", text)
