"""Bounds on what a reader's function may do while it is tried: how long it runs, how much of what
it prints is kept.

They protect the notebook from slips such as a loop without end. They are no sandbox.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from ..errors import LabError

KEPT_CHARACTERS, KEPT_LINES = 1000, 20   # of what an answer prints
# a bare `except:` may swallow the first stop, so it is repeated
_AGAIN_S = 1.0


class TimeUp(BaseException):
    """An answer ran longer than its limit. No Exception, or `except Exception` in its loop would
    hold it up.
    """


def seconds_allowed(declared: float) -> float:
    """Seconds that one call may take: LIGHTVIT_CHECK_SECONDS where it is set, else as `declared`; 0
    is no limit.
    """
    given = os.environ.get("LIGHTVIT_CHECK_SECONDS", "").strip()
    try:
        seconds = float(given or declared)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise LabError(f"check: LIGHTVIT_CHECK_SECONDS={given!r}; give seconds, 0 for no limit, or unset it")
    return seconds


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block once it has run for `seconds`; 0 is no limit.

    On the main thread of Linux and macOS a signal does it, which also ends sleeping; elsewhere a
    second thread, which waits until Python code runs. Neither can end one long call inside torch.
    """
    if not seconds:
        yield
        return
    by_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    with _signal_after(seconds) if by_signal else _exception_after(seconds):
        yield


@contextmanager
def _signal_after(seconds: float) -> Iterator[None]:
    """Stop the main thread by SIGALRM; handler and timer of others, pytest-timeout's for one, are
    put back after it.
    """
    active = True

    def stop(number: int, frame: object) -> None:
        if active:
            raise TimeUp

    handler = signal.signal(signal.SIGALRM, stop)
    others = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, *others)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _exception_after(seconds: float) -> Iterator[None]:
    """Stop whichever thread this is, by an exception that another one sets in it."""
    thread, over, lock = ctypes.c_ulong(threading.get_ident()), False, threading.Lock()

    def stop() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeUp))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()
        # one that was set too late to be raised
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)


class Printed(io.TextIOBase):
    """Stands for the terminal while an answer runs: keeps the beginning of what is written and
    counts the rest.
    """

    def __init__(self) -> None:
        self._kept, self._length = "", 0

    def writable(self) -> bool:
        """True, as a terminal would say."""
        return True

    def write(self, text: str) -> int:
        """Keep what still fits; gives the number of characters taken, which is all of them."""
        self._kept += text[: max(0, KEPT_CHARACTERS - len(self._kept))]
        self._length += len(text)
        return len(text)

    @property
    def text(self) -> str:
        """What was written, cut after KEPT_CHARACTERS or KEPT_LINES with a note that says how much
        is missing.
        """
        shown = "\n".join(self._kept.rstrip().split("\n")[:KEPT_LINES])
        missing = self._length - len(shown)
        cut = len(shown) < len(self._kept.rstrip()) or self._length > KEPT_CHARACTERS
        return f"{shown}\n... ({missing:,} more characters are not shown)" if cut else shown


@contextmanager
def captured() -> Iterator[Printed]:
    """Collect what the block prints, to either stream, instead of printing it."""
    printed = Printed()
    with redirect_stdout(printed), redirect_stderr(printed):
        yield printed
