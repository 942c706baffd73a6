"""One notebook in a process of its own, from the grader's side: start, listen, call, end."""

from __future__ import annotations

import builtins
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import lockdown
from .wire import Channel, Closed, Late, stand_in

CALL_SECONDS = 10.0   # of one call of an answer, on one hidden case


@dataclass(frozen=True)
class Limits:
    """What one notebook may take: seconds in all, and MiB beyond the imported libraries."""

    seconds: float = 300.0
    memory_mib: int = 2048


@dataclass
class Ending:
    """How a notebook ended: "finished", "timeout" or "ended"; in which cell; errors by cell."""

    how: str = "finished"
    cell: int = -1
    text: str = ""
    errors: dict[int, str] = field(default_factory=dict)


class RemoteAnswer:
    """A learner's function that lives in the other process; called here, it runs there."""

    def __init__(self, channel: Channel, name: str) -> None:
        self.channel, self.__name__ = channel, name
        self.late, self.where = False, ""

    def __call__(self, *inputs: Any) -> Any:
        """What the function gives for these inputs; raises what it raises, by name and text."""
        return self._ask({"do": "call", "inputs": inputs, "prepare": False})

    def prepared(self, prepare: Callable[[Any], Any]) -> Any:
        """What the exercise's `prepare` makes of the answer over there: a value, or a callable."""
        answer = self._ask({"do": "prepare", "inputs": (), "prepare": True}, whole=True)
        if "callable" not in answer:
            return answer.get("value")
        return lambda *inputs: self._ask({"do": "call", "inputs": inputs, "prepare": True})

    def _ask(self, request: dict[str, Any], whole: bool = False) -> Any:
        if self.late:
            raise TimeoutError("stopped")
        self.channel.send({**request, "seed": torch.initial_seed()})
        reply = self.channel.receive()
        self.late = "late" in reply
        if self.late:
            raise TimeoutError("stopped")
        if "error" in reply:
            self.where = _text(reply.get("where"))
            raise _exception(_text(reply["error"]), _text(reply.get("text")))
        return reply if whole else reply.get("value")


def run(cells: list[str], limits: Limits, judge: Callable[[str, Any], None]) -> Ending:
    """Run a notebook's cells; it waits while `judge(exercise_id, answer)` runs at each check.

    Whatever the notebook does, this returns, soon after `limits.seconds` at the latest.
    """
    ending = Ending()
    with _process(limits) as (process, channel):
        try:
            channel.send({"cells": cells, "call_seconds": min(CALL_SECONDS, limits.seconds / 4),
                          "cell_seconds": limits.seconds / 2, "seconds": int(limits.seconds) + 1,
                          "memory_mib": limits.memory_mib})
            _listen(channel, ending, judge)
        except Late:
            ending.how = "timeout"
            ending.text = f"the notebook was stopped after {limits.seconds:g} s"
        except Closed as closed:
            ending.how, ending.text = "ended", _cause(process, closed)
    return ending


def _listen(channel: Channel, ending: Ending, judge: Callable[[str, Any], None]) -> None:
    """Follow the notebook from cell to cell until it says that it has finished."""
    while True:
        message = channel.receive()
        if "finished" in message:
            return
        if "failed" in message and isinstance(message["failed"], int):
            error, text = _text(message.get("error")), _text(message.get("text"))
            ending.errors[message["failed"]] = f"{error}: {text}"
        elif "cell" in message and isinstance(message["cell"], int):
            ending.cell = message["cell"]
        elif "check" in message:
            judge(_text(message["check"]), _answer(channel, message))
            channel.send({"do": "go on"})
        else:
            raise Closed("an unintelligible message")


def _answer(channel: Channel, message: dict[str, Any]) -> Any:
    """The learner's answer as the grader can use it: a value, or a function called over there."""
    if message.get("kind") == "value":
        return message.get("value")
    answer = RemoteAnswer(channel, _text(message.get("name")))
    if message.get("kind") == "class":
        answer.stand_in = stand_in(answer.__name__)
    return answer


@contextmanager
def _process(limits: Limits) -> Iterator[tuple[subprocess.Popen, Channel]]:
    """A worker in a new folder and session; killed with all it started, its folder deleted."""
    ours, theirs = socket.socketpair()
    scratch = Path(tempfile.mkdtemp(prefix="lightvit_grade_"))
    code = "from lightvit_grader.worker import main; main()"
    command = [*lockdown.namespaces(), sys.executable, "-c", code, str(theirs.fileno()),
               str(scratch)]
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(command, cwd=scratch, env=_environment(scratch),
                               pass_fds=[theirs.fileno()], start_new_session=True, **silent)
    theirs.close()
    try:
        yield process, Channel(ours, time.monotonic() + limits.seconds)
    finally:
        ours.close()
        _kill(process)
        shutil.rmtree(scratch, ignore_errors=True)


def _kill(process: subprocess.Popen) -> None:
    """End the process with its whole group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _environment(scratch: Path) -> dict[str, str]:
    """The variables of this shell that a notebook gets: next to none."""
    variables = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LIGHTVIT_DATASET")
                 if name in os.environ}
    if os.environ.get("LIGHTVIT_DATA"):
        variables["LIGHTVIT_DATA"] = str(Path(os.environ["LIGHTVIT_DATA"]).resolve())
    ours = dict.fromkeys([str(lockdown.PACKAGE.parent), str(lockdown.GRADER.parent)])
    path = os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    folders = ("HOME", "TMPDIR", "LIGHTVIT_CACHE", "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME")
    return {**variables, **dict.fromkeys(folders, str(scratch)), "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1", "LIGHTVIT_DEVICE": "cpu", "LIGHTVIT_OFFLINE": "1",
            "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg",
            "PYTHONDONTWRITEBYTECODE": "1"}


def _cause(process: subprocess.Popen, closed: Closed) -> str:
    """Why a notebook's process spoke no more."""
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return f"the notebook's process broke off: {closed}"
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        names = {each.value: each.name for each in signal.Signals}
        return f"the notebook's process was ended by {names.get(number, f'signal {number}')}"
    return f"the notebook ended its own process (exit status {code})"


def _exception(name: str, text: str) -> Exception:
    """An exception like the one raised over there, or one of the same name."""
    known = getattr(builtins, name, None)
    try:
        if isinstance(known, type) and issubclass(known, Exception):
            return known(text) if text else known()
    except TypeError:
        pass
    kind = type(name if name.isidentifier() else "Exception", (Exception,), {})
    return kind(text)


def _text(value: Any) -> str:
    """What came from over there as one short line."""
    return " ".join(str(value if value is not None else "").split())[:400]
