"""Run an answer on the drawn inputs: on copies, within limits, whatever it raises."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError
from ..runtime.running import in_mode
from .comparison import difference
from .declaration import Exercise
from .limits import TimeUp, captured, seconds_allowed, time_limit

# reported to the reader; KeyboardInterrupt is the reader's own wish
_SURVIVED = (Exception, TimeUp, SystemExit)


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a value, or the exception it raised.

    `changed` lists the arguments it wrote into, `printed` is what it printed, `was_training` says
    that it is a module in train mode whose outputs depend on the mode. `problem` says in a sentence
    why what was returned cannot be used, where that is what raised the exception.
    """

    value: Any = None
    error: BaseException | None = None
    changed: tuple[int, ...] = ()
    printed: str = ""
    was_training: bool = False
    problem: str = ""


def draw(exercise: Exercise, seed: int) -> list[tuple]:
    """Fresh inputs; an exercise whose answer is a value has one case without arguments."""
    if exercise.cases is None:
        return [()]
    cases = list(exercise.cases(torch.Generator().manual_seed(seed)))
    if not cases or not all(isinstance(case, tuple) for case in cases):
        raise LabError(f"Exercise {exercise.id!r}: cases(generator) must give a list of tuples of "
                       "arguments")
    return cases


def outcomes(exercise: Exercise, answer: Any, cases: list[tuple], seed: int) -> list[Outcome]:
    """One outcome per case, with gradients on, whatever is set outside.

    Global random numbers are the same for every answer, and the reader's are left alone.
    """
    seconds = seconds_allowed(exercise.seconds)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        prepared = _attempt(exercise.prepare, (answer,), seed,
                        seconds) if exercise.prepare else Outcome(answer)
        if prepared.error or not callable(prepared.value):
            return [prepared] * len(cases)
        with _in_eval_mode(prepared.value) as was_training:
            return _calls(prepared.value, cases, seed, seconds, was_training)


def _calls(function: Callable, cases: list[tuple], seed: int, seconds: float,
           was_training: bool) -> list[Outcome]:
    """One call per case, until one runs out of time: its outcome then stands for the rest."""
    given: list[Outcome] = []
    for index, case in enumerate(cases):
        inputs = _clone(case, device_of(function))
        outcome = _attempt(function, inputs, seed + index, seconds)
        changed = tuple(i for i, pair in enumerate(zip(inputs, case)) if _written_into(*pair))
        given.append(Outcome(outcome.value, outcome.error, changed, outcome.printed, was_training))
        if isinstance(outcome.error, TimeUp):
            return given + given[-1:] * (len(cases) - len(given))
    return given


def _attempt(function: Callable, arguments: tuple, seed: int, seconds: float) -> Outcome:
    """One call; what it raises and prints is part of the outcome."""
    torch.default_generator.manual_seed(seed)
    with captured() as printed:
        try:
            with time_limit(seconds):
                value, error = function(*arguments), None
        except _SURVIVED as raised:
            value, error = None, raised
    return Outcome(value, error, printed=printed.text)


def device_of(function: Any) -> torch.device | None:
    """Where a module keeps its weights, and so expects its inputs; None for plain functions."""
    if not isinstance(function, nn.Module):
        return None
    tensors = itertools.chain(function.parameters(), function.buffers())
    return next((tensor.device for tensor in tensors), None)


@contextmanager
def _in_eval_mode(function: Any) -> Iterator[bool]:
    """A module is tried as in `.eval()` and put back; gives whether that changes its outputs."""
    if not isinstance(function, nn.Module):
        yield False
        return
    depends = any(part.training and _depends_on_mode(part) for part in function.modules())
    with in_mode(function):
        yield depends


def _depends_on_mode(part: nn.Module) -> bool:
    drops = "drop" in type(part).__name__.lower() and (getattr(part, "p", None)
                                                       or getattr(part, "drop_prob", None))
    return bool(drops) or isinstance(part, nn.modules.batchnorm._NormBase)


def _clone(value: Any, device: torch.device | None) -> Any:
    """A copy of a case, its tensors on `device`, so that writing into it harms no other call."""
    if isinstance(value, Tensor):
        return value.detach().clone().to(device or value.device).requires_grad_(value.requires_grad)
    if type(value) in (tuple, list):
        return type(value)(_clone(part, device) for part in value)
    if type(value) is dict:
        return {key: _clone(part, device) for key, part in value.items()}
    return copy.deepcopy(value)


def _written_into(after: Any, before: Any) -> bool:
    """Whether a tensor, or a list, tuple or dict of tensors and numbers, has changed."""
    if isinstance(after, Tensor) and after.device.type == "meta":
        return False   # holds no numbers that could be told apart
    return isinstance(before, (Tensor, list, tuple, Mapping)) and difference(after, before,
                                                                             0.0) is not None
