"""The process in which one notebook runs, as `session` starts it: `worker.main()` with FD, SCRATCH.

Nothing here is trusted afterwards. The process holds no expected value and no known mistake:
`check` sends the answer, or, for a function, lets the grader call it from outside, and what the
calls give is judged there. So there is nothing to forge: whoever writes to the channel by hand has
handed in an answer, no more.
"""

from __future__ import annotations

import linecache
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from . import lockdown

TEXT = 400   # characters of a learner's error that are passed on


class OutOfTime(BaseException):
    """Raised inside the learner's code at its limit; no `except Exception` stops it."""


class Recorder:
    """Stands in the place of `check`: hands over the answer and lets the grader call it."""

    def __init__(self, channel: Any, call_seconds: float) -> None:
        self.channel, self.call_seconds, self.busy = channel, call_seconds, False

    def __call__(self, exercise_id: str, answer: Any, *arguments: Any, **options: Any) -> str:
        """Hand over one answer and serve the calls that the grader makes of it."""
        if not self.busy:
            self.busy = True
            # the cell's clock must not break into a message
            seconds = signal.setitimer(signal.ITIMER_REAL, 0)[0]
            try:
                self.channel.send({"check": str(exercise_id), **answer_message(answer)})
                while (request := self.channel.receive())["do"] != "go on":
                    with AtMost(self.call_seconds):
                        reply = self.attempt(str(exercise_id), answer, request)
                    self.channel.send(reply)
            finally:
                self.busy = False
                signal.setitimer(signal.ITIMER_REAL, seconds)
        return f"[handed in] {exercise_id}"

    def attempt(self, exercise_id: str, answer: Any, request: dict[str, Any]) -> dict[str, Any]:
        """One call: {"value": ...}, {"error": ..., "text": ..., "where": ...} or {"late": True}."""
        import torch

        torch.manual_seed(request["seed"])
        try:
            if request["prepare"]:
                from lightvit_lab.exercises import find

                answer = find(exercise_id).prepare(answer)
                if not callable(answer):
                    return {"value": answer}
            if request["do"] == "call":
                return {"value": answer(*request["inputs"])}
            return {"callable": True}
        except OutOfTime:
            return {"late": True}
        except (Exception, SystemExit) as error:   # noqa: BLE001  the learner's, and told
            return error_message(error)


class AtMost:
    """A limit in seconds for the block; the grader stops what does not listen to signals."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *problem: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def stop(number: int, frame: FrameType | None) -> None:
    """What the alarm does."""
    raise OutOfTime("it took longer than a cell may")


def answer_message(answer: Any) -> dict[str, Any]:
    """What the grader gets of an answer: its kind, and the value where it is one."""
    kind = "class" if isinstance(answer, type) else "function" if callable(answer) else "value"
    name = str(getattr(answer, "__name__", type(answer).__name__))
    return {"kind": kind, "name": name[:60], "value": answer if kind == "value" else None}


def error_message(error: Exception) -> dict[str, Any]:
    """An exception of the learner's code, with the learner's line; that of a stub has no text."""
    own = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
           if frame.f_code.co_filename.startswith(("<ipython-input", os.getcwd()))]
    where = ""
    if own:
        frame, line = own[-1]
        code = linecache.getline(frame.f_code.co_filename, line).strip()
        number = line - frame.f_code.co_firstlineno + 1
        where = f"line {number} of `{frame.f_code.co_name}`: `{code}`"
    stub = isinstance(error, NotImplementedError) and "raise NotImplementedError" in where
    return {"error": type(error).__name__, "text": "" if stub else str(error)[:TEXT],
            "where": where[:TEXT]}


def hide_answers(recorder: Recorder) -> None:
    """Put the recorder in the place of `check`, and a module that refuses in that of the answers.

    The walls hide the files of the answers.
    """
    from lightvit_lab import exercises
    from lightvit_lab.errors import LabError

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise LabError("solutions are not at hand while a notebook is graded")

    exercises.check = exercises.engine.check = recorder
    answers = ModuleType("lightvit_lab.exercises.answers")
    answers.of = answers.rubric_of = refuse
    sys.modules[answers.__name__] = answers


def run_cells(channel: Any, cells: list[str], cell_seconds: float) -> None:
    """Run the cells in order, in one IPython shell; a cell that fails stops only itself."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    quiet = Config({"HistoryManager": {"enabled": False},
                    "InteractiveShell": {"cache_size": 0, "colors": "NoColor"}})
    shell = InteractiveShell.instance(config=quiet)
    for number, source in enumerate(cells):
        channel.send({"cell": number})
        try:
            with AtMost(cell_seconds):
                result = shell.run_cell(source)
            error = result.error_before_exec or result.error_in_exec
        except OutOfTime as late:
            error = late
        if error is not None:
            channel.send({"failed": number, "error": type(error).__name__,
                          "text": str(error)[:TEXT]})


def main() -> None:
    """Take the notebook from the channel, shut the doors, run it, say that it has ended."""
    connection, scratch = socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])
    lockdown.confine_files(scratch)
    from .wire import Channel   # imports torch, whose threads must find the doors shut

    channel = Channel(connection)
    order = channel.receive()
    recorder = Recorder(channel, order["call_seconds"])
    hide_answers(recorder)
    lockdown.close_sockets()
    lockdown.limit_resources(order["memory_mib"], order["seconds"])
    sys.argv[:] = ["notebook"]
    run_cells(channel, order["cells"], order["cell_seconds"])
    channel.send({"finished": True})
    os._exit(0)
