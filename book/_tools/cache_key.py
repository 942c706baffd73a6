"""The name of the execution cache: it changes with all that pages print from, but their cells.

jupyter-cache looks at a page's own cells only. With the cache in a folder named by this key, a
changed library, stored result, model of the zoo, package or data set makes every page run again,
and going back to the old state finds the old cache.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCES = ("lightvit_lab", "book/results", "book/zoo")
PACKAGES = ("torch", "timm", "numpy", "plotly", "captum", "scikit-learn", "ipywidgets",
            "safetensors")
VARIABLES = ("LIGHTVIT_DATASET", "LIGHTVIT_DATA", "LIGHTVIT_DEVICE")


def cache_key(root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """16 hexadecimal digits over library, results, zoo, versions and data of a checkout."""
    digest = hashlib.sha256()
    for line in _lines(root, environ):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def installed_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Python and package -> version, for those of `packages` that are installed."""
    versions = {"Python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def keep_newest(folder: Path, current: str, count: int = 3) -> None:
    """Make the cache `current` in `folder` the newest, and delete all but the newest `count`."""
    (folder / current).mkdir(parents=True, exist_ok=True)
    os.utime(folder / current)
    caches = sorted((path for path in folder.iterdir() if path.is_dir()),
                    key=lambda path: path.stat().st_mtime)
    for path in caches[:-count]:
        shutil.rmtree(path)


def _lines(root: Path, environ: Mapping[str, str]) -> Iterable[str]:
    """Everything the key depends on, one line each, in a fixed order."""
    for source in SOURCES:
        for path in _files(root / source):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield f"{path.relative_to(root).as_posix()} {digest}"
    for name, version in sorted(installed_versions().items()):
        yield f"{name} {version}"
    for name in VARIABLES:
        yield f"{name}={environ.get(name, '')}"
    for name in ("LIGHTVIT_DATA", "LIGHTVIT_DATASET"):   # the second may name a folder of pictures
        # an absolute value stays as it is
        folder = root / Path(environ.get(name) or "no-folder").expanduser()
        yield from (f"{path.relative_to(folder).as_posix()} {path.stat().st_size}"
                    for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    """Every file below `folder`, no caches, in a fixed order; none where the folder is missing."""
    return sorted(path for path in folder.rglob("*")
                  if path.is_file() and "__pycache__" not in path.parts)
