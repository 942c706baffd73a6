"""Runs that are kept in the user's cache as they end: a study that was stopped goes on, and several processes may share one."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import runtime, storage
from ..errors import LabError

_MEND = "it is made anew"


def place(name: str) -> Path:
    """A file in the user's cache, in the folder of studies. Raises LabError where none can be."""
    path = runtime.cache() / "studies" / name
    with storage.refused(f"studies: {path.parent} cannot be made",
                         "set LIGHTVIT_CACHE to a folder that can be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def kept(study: str, about: list[Any], make: Callable[[], dict[str, Any]], label: str) -> dict[str, Any]:
    """What `make()` returned where `about`, all that decides it, was the same; else made and kept.

    `label` is printed. A damaged file is made anew; what cannot be kept is returned with a warning.
    """
    key = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:20]
    path = runtime.cache() / "studies" / f"{study}-{key}.json"
    if storage.is_file(path):
        try:
            return _read(path)
        except LabError as error:
            warnings.warn(str(error), stacklevel=2)
    run = make()
    print(f"{label}: test {run['test']}, {run['cpu_seconds']} s", flush=True)
    try:
        storage.write_json("studies", path, run, make_folder=True)
    except LabError as error:
        warnings.warn(f"{error}. The study goes on, and makes this run again at its next start",
                      stacklevel=2)
    return json.loads(json.dumps(run))


def _read(path: Path) -> dict[str, Any]:
    """A run that was kept. Raises LabError on a damaged file."""
    run = storage.read_json("studies", path, _MEND)
    shown = {"test": object, "cpu_seconds": (int, float)}
    storage.require_fields(f"studies: {path}", run, shown, _MEND)
    return run
