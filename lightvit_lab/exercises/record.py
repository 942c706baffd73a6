"""How a reader's exercises went: one small file in the cache, so that it is still known tomorrow.

Nothing here ever fails a check. LIGHTVIT_PROGRESS=0, a build of the book and CI keep everything in
memory alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import storage
from ..errors import LabError
from ..runtime import cache

STATUSES = ("passed", "not started", "wrong", "error")
_VERSION = 1
_session: dict[str, "Entry"] = {}   # what the file does not take, this session still knows
unwritten = False                   # whether the last attempt to write the file failed


@dataclass(frozen=True)
class Entry:
    """How one exercise went: `status` as the last check left it, though "passed" stays; tries until
    it passed.
    """

    status: str = "not started"
    attempts: int = 0

    def after(self, status: str) -> "Entry":
        """This entry after one more check; a stub is no attempt, and nothing takes a pass back."""
        if self.status == "passed" or status == "not started":
            return self
        return Entry(status, self.attempts + 1)


def path() -> Path:
    """The file that is read and written."""
    return cache() / "progress.json"


def why_not_kept() -> str:
    """What keeps the file from being used, in words; empty where it is used."""
    if os.environ.get("LIGHTVIT_PROGRESS", "").strip().lower() in ("0", "off", "no", "false"):
        return f"LIGHTVIT_PROGRESS={os.environ['LIGHTVIT_PROGRESS']}"
    if os.environ.get("LIGHTVIT_BOOK"):
        return "a book is being built"
    if os.environ.get("CI", "").strip().lower() not in ("", "0", "false"):
        return "this is CI"
    try:
        path()
    except RuntimeError:
        return "there is no home folder, and LIGHTVIT_CACHE names no other"
    return ""


def note(exercise_id: str, status: str) -> None:
    """Remember one check; a file that cannot be written only leaves `unwritten` true."""
    global unwritten
    _session[exercise_id] = entries().get(exercise_id, Entry()).after(status)
    if why_not_kept() or status == "not started":
        return
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path()}.lock", timeout=1):
            kept = _read()
            _write(kept | {exercise_id: kept.get(exercise_id, Entry()).after(status)})
        unwritten = False
    except (LabError, OSError, Timeout, NotImplementedError):
        unwritten = True


def entries() -> dict[str, Entry]:
    """What is known: of the file's entry and this session's, the one that is further on."""
    kept = {} if why_not_kept() else _read()
    return kept | {name: max(entry, kept.get(name, Entry()), key=_how_far) for name, entry in _session.items()}


def _how_far(entry: Entry) -> tuple[bool, int]:
    return entry.status == "passed", entry.attempts


def forget() -> None:
    """Forget everything, in this session and in the file; raises OSError where the file cannot be
    removed.
    """
    _session.clear()
    if not why_not_kept():
        path().unlink(missing_ok=True)


def _read() -> dict[str, Entry]:
    """The file's entries; those that cannot be read, or a file that cannot, count as none."""
    try:
        kept = storage.read_json("exercises", path(), "the next check writes it anew")["exercises"]
        return {name: entry for name, given in kept.items() if (entry := _entry(given))}
    except (LabError, KeyError, AttributeError):
        return {}


def _entry(given: Any) -> Entry | None:
    """An entry out of what a file holds; None where it is none."""
    with suppress(TypeError, KeyError):
        status, attempts = given["status"], given["attempts"]
        if status in STATUSES and type(attempts) is int and attempts >= 0:
            return Entry(status, attempts)
    return None


def _write(kept: dict[str, Entry]) -> None:
    exercises = {name: asdict(entry) for name, entry in kept.items()}
    storage.write_json("exercises", path(), {"version": _VERSION, "exercises": exercises})
