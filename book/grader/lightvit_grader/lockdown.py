"""Walls around a notebook under examination: files, network, time and memory.

Three walls, each used where the machine has it; `walls()` says what they do not protect against.

* **Landlock**, a part of Linux since 5.13 that needs no rights: files can be written in the scratch
  folder alone, and read only where Python and its packages lie, without the answers of the
  exercises. From 6.7 on, no TCP; from 6.12 on, no signal reaches a process outside.
* **Namespaces** through `unshare` of util-linux, where the system lets users make them: no network
  at all, no sight of other processes, and whatever the notebook started dies with it.
* **Limits of the process** (`resource`): memory, processor time, size of files, number of
  processes. Everywhere but on Windows, which this does not run on.

None of them is a virtual machine: a hole in the kernel is a way out. `book/teaching.md` has the
list.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightvit_lab

PACKAGE = Path(lightvit_lab.__file__).resolve().parent
GRADER = Path(__file__).resolve().parent
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/opt", "/proc", "/sys", "/dev", "/etc/ld.so.cache",
          "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/fonts", "/etc/mime.types",
          "/etc/alternatives")
NAMESPACES = ("unshare", "--user", "--map-current-user", "--net", "--ipc", "--mount-proc",
              "--pid", "--fork", "--kill-child")
FILE_MIB, PROCESSES = 256, 4096
# system calls of Landlock, the same numbers on every processor
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


@functools.cache
def namespaces() -> tuple[str, ...]:
    """The command that a worker is started through; empty where namespaces are not allowed."""
    if not shutil.which(NAMESPACES[0]):
        return ()
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    return NAMESPACES if tried.returncode == 0 else ()


def landlock_version() -> int:
    """The version of the kernel's Landlock, 0 where it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, ctypes.CDLL(None).syscall(_CREATE, None, 0, 1))


def walls() -> list[str]:
    """What this machine does not protect against, in words; empty where all walls stand."""
    version, missing = landlock_version(), []
    if not version:
        missing.append("notebooks can read and delete every file that you can "
                       "(no Landlock in this kernel)")
    if not namespaces():
        missing.append("only Python's own sockets are closed" if version < 4
                       else "UDP stays open to native code")
        missing.append("processes that a notebook detaches outlive it")
    return missing


def confine_files(scratch: Path) -> bool:
    """Shut this process off from files outside; False where the kernel cannot.

    Call it before any thread is started.
    """
    version = landlock_version()
    if not version:
        return False
    kernel = ctypes.CDLL(None, use_errno=True)
    handled = _all_rights(version) & ~1            # bit 0, executing, stays free
    rules = _Ruleset(handled, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _done(kernel.syscall(_CREATE, ctypes.byref(rules), size, 0))
    for path, rights in _allowed(scratch, handled):
        _allow(kernel, ruleset, path, rights)
    _done(kernel.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _done(kernel.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)
    return True


def _all_rights(version: int) -> int:
    """All rights that this version of Landlock knows of, as bits."""
    return (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1


def _allowed(scratch: Path, handled: int) -> Iterator[tuple[Path, int]]:
    """Each path with the rights below it."""
    read = _READ_FILE | _READ_DIR
    yield scratch, handled
    yield Path("/dev/null"), read | _WRITE_FILE | _TRUNCATE & handled
    hidden = [PACKAGE / "exercises" / "answers"]
    for root in dict.fromkeys(map(Path, _roots())):
        for path, rights in _around(root, hidden, read):
            yield path, rights


def _roots() -> Iterator[str]:
    """Where Python, its packages and the data lie; of a checkout only library and results."""
    yield from SYSTEM
    checkout = PACKAGE.parent if (PACKAGE.parent / "chapters").is_dir() else None
    for entry in map(os.path.realpath, (sys.prefix, sys.base_prefix, *sys.path)):
        if os.path.isdir(entry) and Path(entry) != checkout:
            yield entry
    yield from (str(PACKAGE), str(GRADER), str(PACKAGE.parent / "book" / "results"))
    yield from filter(None, [os.environ.get("LIGHTVIT_DATA")])


def _around(root: Path, hidden: list[Path], rights: int) -> Iterator[tuple[Path, int]]:
    """The paths that hold everything below `root` but what is hidden; names can be listed."""
    if root in hidden:
        return
    if not any(root in path.parents for path in hidden):
        yield root, rights
        return
    yield root, _READ_DIR
    for child in root.iterdir():
        # lib64 of a virtual environment is a link to lib: that door leads to the same room
        target = child.resolve()
        if not child.is_symlink() or not any(target in path.parents for path in hidden):
            yield from _around(target, hidden, rights)


def _allow(kernel: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Add one rule; a path that is not there is none."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not path.is_dir():
        rights &= ~_READ_DIR
    beneath = _Beneath(rights, place)
    _done(kernel.syscall(_ADD, ruleset, 1, ctypes.byref(beneath), 0))
    os.close(place)


def _done(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result


def limit_resources(memory_mib: int, seconds: int) -> None:
    """Bound what this process may still take: memory, processor seconds, files, processes."""
    import resource

    status = Path("/proc/self/status")
    # private memory; the address space of torch alone is many GiB, most of it never touched
    if status.is_file():
        now = int(re.search(r"VmData:\s+(\d+) kB", status.read_text()).group(1)) * 1024
        _lower(resource.RLIMIT_DATA, now + memory_mib * 2**20)
    else:
        _lower(resource.RLIMIT_AS, memory_mib * 2**20)
    _lower(resource.RLIMIT_CPU, seconds + 5)
    _lower(resource.RLIMIT_FSIZE, FILE_MIB * 2**20)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NPROC, PROCESSES)


def _lower(kind: int, value: int) -> None:
    """Set a limit for good; a system that knows no such limit is left as it is."""
    import resource

    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):
        pass


def close_sockets() -> None:
    """Make Python's sockets refuse with a sentence; native code is up to the walls."""
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("there is no network while a notebook is graded")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = refuse
