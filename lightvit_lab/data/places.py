"""Where data sets lie: the folder that `LIGHTVIT_DATA` names, then the user's cache."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LabError
from ..runtime import cache
from ..storage import shown

NO_DOWNLOAD = 'data.load("shapes") needs no download'


def root() -> Path | None:
    """The folder `LIGHTVIT_DATA` names, absolute; None where it is not set. Raises LabError if it
    does not exist.
    """
    folder = os.environ.get("LIGHTVIT_DATA")
    if not folder:
        return None
    path = Path(os.path.realpath(os.path.expanduser(folder)))
    if not os.path.isdir(path):
        raise LabError(f"LIGHTVIT_DATA={shown(folder)} is no folder (resolved: {shown(path)}); "
                       f"point it at the folder that holds the data sets, or unset it; {NO_DOWNLOAD}")
    return path


def find(*names: str) -> Path | None:
    """The first of these files or folders below `root()`, then below `cache()`; None where there is
    none.
    """
    paths = (base / name for base in (root(), cache()) if base for name in names)
    return next((path for path in paths if path.exists()), None)


def acquire(path: Path) -> AbstractContextManager:
    """Make the folder of `path` and wait until no other process works on it; `with` gives the lock
    back.

    The system gives it back for a process that was killed. Raises OSError where the folder cannot
    be written.
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
