"""Where data sets lie: the folder that `LIGHTVIT_DATA` names, then the user's cache."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LabError
from ..runtime import cache
from ..storage import printable

NO_DOWNLOAD = 'data.load("shapes") needs no download'


def root() -> Path | None:
    """The folder `LIGHTVIT_DATA` names, absolute, or None. Raises LabError if it does not exist."""
    folder = os.environ.get("LIGHTVIT_DATA")
    if not folder:
        return None
    path = Path(os.path.realpath(os.path.expanduser(folder)))
    if not os.path.isdir(path):
        raise LabError(f"LIGHTVIT_DATA={printable(folder)} is no folder (resolved: "
                       f"{printable(path)}); give the folder of the data sets; {NO_DOWNLOAD}")
    return path


def find(*names: str) -> Path | None:
    """The first of these files or folders that is below `root()`, or else below `cache()`."""
    paths = [base / name for base in (root(), cache()) if base for name in names]
    return next((path for path in paths if path.exists()), None)


def acquire(path: Path) -> AbstractContextManager:
    """Make the folder of `path`, and lock `path` against other processes until `with` ends.

    The system gives back the lock of a process that was killed. Raises OSError where the folder
    cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        return lock.acquire(timeout=3)
    except Timeout:
        print(f"Another process is making {path}; waiting for it.", file=sys.stderr)
        return lock.acquire()
    except NotImplementedError as error:   # a file system without locks
        raise OSError(str(error)) from error
