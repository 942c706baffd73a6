"""How a reader's exercises went: one small file in the cache that outlives the session.

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
write_failed = False                # whether the last attempt to write the file failed


@dataclass(frozen=True)
class Entry:
    """How one exercise went: its status and the number of tries until it passed.

    `status` is that of the last check, but "passed" stays.
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


def reason_not_stored() -> str:
    """Why the file is not used, in words; empty where it is used."""
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
    """Remember one check; a file that cannot be written only sets `write_failed`."""
    global write_failed
    _session[exercise_id] = entries().get(exercise_id, Entry()).after(status)
    if reason_not_stored() or status == "not started":
        return
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path()}.lock", timeout=1):
            stored = _read()
            _write(stored | {exercise_id: stored.get(exercise_id, Entry()).after(status)})
        write_failed = False
    except (LabError, OSError, Timeout, NotImplementedError):
        write_failed = True


def entries() -> dict[str, Entry]:
    """Of each exercise the entry that is further on, that of the file or this session's."""
    stored = {} if reason_not_stored() else _read()
    return stored | {name: max(entry, stored.get(name, Entry()), key=_rank)
                     for name, entry in _session.items()}


def _rank(entry: Entry) -> tuple[bool, int]:
    return entry.status == "passed", entry.attempts


def forget() -> None:
    """Forget everything, here and in the file. Raises OSError where that cannot be removed."""
    _session.clear()
    if not reason_not_stored():
        path().unlink(missing_ok=True)


def _read() -> dict[str, Entry]:
    """The file's entries; one that cannot be read is left out."""
    try:
        stored = storage.read_json("exercises", path(), "the next check writes it anew")
        return {name: entry for name, given in stored["exercises"].items()
                if (entry := _entry(given))}
    except (LabError, KeyError, AttributeError):
        return {}


def _entry(given: Any) -> Entry | None:
    """An entry out of what a file holds; None where it is none."""
    with suppress(TypeError, KeyError):
        status, attempts = given["status"], given["attempts"]
        if status in STATUSES and type(attempts) is int and attempts >= 0:
            return Entry(status, attempts)
    return None


def _write(stored: dict[str, Entry]) -> None:
    exercises = {name: asdict(entry) for name, entry in stored.items()}
    storage.write_json("exercises", path(), {"version": _VERSION, "exercises": exercises})
