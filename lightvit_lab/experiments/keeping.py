"""Runs that are kept in the user's cache as they end: a study that was stopped goes on, and several processes may share one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import runtime


def place(name: str) -> Path:
    """A file in the user's cache, in the folder of studies."""
    folder = runtime.cache() / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def kept(study: str, about: list[Any], make: Callable[[], dict[str, Any]], label: str) -> dict[str, Any]:
    """What `make()` returned where `about`, all that decides it, was the same; else made now, and kept. `label` is printed."""
    key = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:20]
    path = place(f"{study}-{key}.json")
    if not path.is_file():
        run = make()
        print(f"{label}: test {run['test']}, {run['cpu_seconds']} s", flush=True)
        path.write_text(json.dumps(run), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
