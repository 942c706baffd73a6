"""Bounds on an answer while it is tried: its seconds, and how much of its output is stored.

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

MAX_CHARACTERS, MAX_LINES = 1000, 20   # of what an answer prints
# a bare `except:` may swallow the first stop, so it is repeated
_AGAIN_S = 1.0


class TimeUp(BaseException):
    """An answer ran longer than its limit.

    It is no Exception, so that `except Exception` in the answer's loop cannot catch it.
    """


def seconds_allowed(declared: float) -> float:
    """Seconds that one call may take: LIGHTVIT_CHECK_SECONDS, else `declared`; 0 is no limit."""
    given = os.environ.get("LIGHTVIT_CHECK_SECONDS", "").strip()
    try:
        seconds = float(given or declared)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise LabError(f"check: LIGHTVIT_CHECK_SECONDS={given!r}; give seconds, 0 for no limit, or "
                       "unset it")
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
    on_main = threading.current_thread() is threading.main_thread()
    by_signal = on_main and hasattr(signal, "setitimer")
    with _signal_after(seconds) if by_signal else _exception_after(seconds):
        yield


@contextmanager
def _signal_after(seconds: float) -> Iterator[None]:
    """Stop the main thread by SIGALRM; puts back handler and timer of others (pytest-timeout)."""
    active = True

    def raise_time_up(number: int, frame: object) -> None:
        if active:
            raise TimeUp

    handler = signal.signal(signal.SIGALRM, raise_time_up)
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

    def raise_in_thread() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeUp))

    timer = threading.Timer(seconds, raise_in_thread)
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
    """Stands for the terminal while an answer runs: stores the beginning, counts the rest."""

    def __init__(self) -> None:
        self._text, self._length = "", 0

    def writable(self) -> bool:
        """True, as a terminal would say."""
        return True

    def write(self, text: str) -> int:
        """Store what still fits; gives the number of characters taken, which is all of them."""
        self._text += text[: max(0, MAX_CHARACTERS - len(self._text))]
        self._length += len(text)
        return len(text)

    @property
    def text(self) -> str:
        """What was written; a note says how much is missing after MAX_CHARACTERS or MAX_LINES."""
        start = "\n".join(self._text.rstrip().split("\n")[:MAX_LINES])
        missing = self._length - len(start)
        cut = len(start) < len(self._text.rstrip()) or self._length > MAX_CHARACTERS
        return f"{start}\n... ({missing:,} more characters are not shown)" if cut else start


@contextmanager
def captured() -> Iterator[Printed]:
    """Collect what the block prints, to either stream, instead of printing it."""
    printed = Printed()
    with redirect_stdout(printed), redirect_stderr(printed):
        yield printed
