"""Exercises as short declarations, and the check that says which mistake an answer looks like.

A check takes the reader's own live object, never a file, and tries it on freshly drawn inputs beside the reference and
beside known wrong answers. It never raises because of what the reader wrote, and never shows the reference.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import linecache
import os
import pkgutil
import sysconfig
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..errors import LabError, require_choice, require_range
from .boxes import check_box
from .comparison import beside, describe, difference, item

_PACKAGE = __name__.rpartition(".")[0]
_FOLDER = Path(__file__).parent
_LIBRARIES = tuple(folder + os.sep for folder in (   # frames from here are never the reader's line
    str(_FOLDER.parent), *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib"))))
_attempts: Counter[tuple[str, str]] = Counter()   # per session: how often each known mistake was seen
_seeds = itertools.count(1)


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer: a short name, the answer itself, the hint it draws and the one it draws the next time.

    `answer` is of the solution's kind: a callable of the same signature, or a value.
    """

    name: str
    answer: Any
    hint: str
    stronger: str


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its id is "<stem>.<name>", the stem being that of its page and of the file that declares it.

    `solution` is the reference: a callable, or a value (then `cases` is None). `cases(generator)` draws the inputs, a
    list of tuples of arguments. `tolerance` is relative and absolute; tensors of integers are compared exactly, and so
    are whole numbers unless the tolerance is 1e-3 or more. `prepare`, where given, turns an answer (a module, a class)
    into the callable or value that is compared; it is called on solution, mistakes and answer alike, same seed.
    Raises LabError on a declaration that cannot work.
    """

    id: str
    prompt: str
    solution: Any
    cases: Callable[[torch.Generator], list[tuple]] | None
    mistakes: tuple[Mistake, ...]
    points: int
    minutes: int
    tolerance: float = 1e-5
    prepare: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        caller = f"Exercise {self.id!r}"
        if self.id.count(".") != 1:
            raise LabError(f'{caller}: give an id of the form "<stem of the page>.<name>"')
        require_range(caller, "points", self.points, 1)
        require_range(caller, "minutes", self.minutes, 1)
        require_range(caller, "tolerance", self.tolerance, 0)
        if callable(self.solution) and self.cases is None and self.prepare is None:
            raise LabError(f"{caller}: the solution is a function, so give cases(generator) that draws its inputs")
        for mistake in self.mistakes:
            if callable(mistake.answer) != callable(self.solution):
                raise LabError(f"{caller}: mistake {mistake.name!r} is not of the solution's kind (function or value)")


@dataclass(frozen=True)
class CheckResult:
    """What a check found. `status` is "passed", "not started", "wrong" or "error"; `mistake` names the known one seen.

    `beside` holds expected and given where both are small; `seed` is the one that the inputs were drawn with.
    """

    status: str
    exercise_id: str
    message: str
    beside: str = ""
    mistake: str | None = None
    seed: int | None = None

    def __repr__(self) -> str:
        text = f"[{self.status}] {self.exercise_id}: {self.message}"
        return text + "".join(f"\n    {line}" for line in self.beside.splitlines())

    def _repr_html_(self) -> str:
        return check_box(self.status, self.exercise_id, self.message, self.beside)


@dataclass(frozen=True)
class _Outcome:
    """What one call gave: a value, or the exception it raised; `changed` lists the arguments it wrote into."""

    value: Any = None
    error: Exception | None = None
    changed: tuple[int, ...] = ()


def check(exercise_id: str, answer: Any) -> CheckResult:
    """Try an answer (function, module or value) on the exercise of this id. Raises LabError only on an unknown id."""
    return examine(find(exercise_id), answer)


def examine(exercise: Exercise, answer: Any, seed: int | None = None) -> CheckResult:
    """Try an answer on an exercise; a new `seed` is taken at each call unless one is given."""
    if _unfinished(answer):
        return _not_started(exercise)
    refusal = _wrong_kind(exercise, answer)
    if refusal:
        return CheckResult("wrong", exercise.id, refusal)
    seed = next(_seeds) if seed is None else seed
    cases = _draw(exercise, seed)
    given = _outcomes(exercise, answer, cases, seed)
    if any(_is_stub(outcome) for outcome in given):
        return _not_started(exercise)
    expected = _outcomes(exercise, exercise.solution, cases, seed)
    _require_reference(exercise, expected)
    failing = next((i for i, pair in enumerate(zip(given, expected)) if not _same(*pair, exercise.tolerance)), None)
    if failing is None:
        return CheckResult("passed", exercise.id, _praise(exercise, given, expected), seed=seed)
    mistake = _recognise(exercise, given, cases, seed)
    if mistake:
        return _hint(exercise, mistake, given[failing], seed)
    return _explain(exercise, failing, cases, given[failing], expected[failing], seed)


def reset() -> None:
    """Forget this session's attempts and start the seeds anew."""
    global _seeds
    _attempts.clear()
    _seeds = itertools.count(1)


def find(exercise_id: str) -> Exercise:
    """The exercise of this id; only the file of its stem is imported. Raises LabError with the closest id."""
    module = _modules().get(str(exercise_id).partition(".")[0])
    for exercise in _declared(module) if module else ():
        if exercise.id == exercise_id:
            return exercise
    known = [exercise.id for exercise in all_exercises()]
    require_choice("check", "exercise_id", exercise_id, known)
    raise LabError(f"check: {exercise_id!r} is declared in another file than that of its stem; move it there")


def all_exercises() -> Iterator[Exercise]:
    """Every exercise of the book, file by file."""
    for module in _modules().values():
        yield from _declared(module)


def _modules() -> dict[str, str]:
    """Stem -> module name, for each file in the parts of this package; nothing is imported."""
    parts = [part.name for part in pkgutil.iter_modules([str(_FOLDER)]) if part.ispkg]
    return {file.name: f"{_PACKAGE}.{part}.{file.name}"
            for part in parts for file in pkgutil.iter_modules([str(_FOLDER / part)])}


def _declared(module: str) -> tuple[Exercise, ...]:
    return importlib.import_module(module).EXERCISES


# --- running an answer

def _draw(exercise: Exercise, seed: int) -> list[tuple]:
    """Fresh inputs; an exercise whose answer is a value has one case without arguments."""
    if exercise.cases is None:
        return [()]
    cases = list(exercise.cases(torch.Generator().manual_seed(seed)))
    if not cases or not all(isinstance(case, tuple) for case in cases):
        raise LabError(f"Exercise {exercise.id!r}: cases(generator) must give a list of tuples of arguments")
    return cases


def _outcomes(exercise: Exercise, answer: Any, cases: list[tuple], seed: int) -> list[_Outcome]:
    """One outcome per case. Global random numbers are the same for every answer, and the reader's are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            target = exercise.prepare(answer) if exercise.prepare else answer
        except Exception as error:   # noqa: BLE001  whatever the reader's code raises is told, not passed on
            return [_Outcome(error=error)] * len(cases)
        if not callable(target):
            return [_Outcome(value=target)] * len(cases)
        return [_call(target, case, seed + index) for index, case in enumerate(cases)]


def _call(function: Callable, case: tuple, seed: int) -> _Outcome:
    """Call on a copy of the case, so that what is written into it is seen and harms no other call."""
    inputs = _clone(case)
    torch.default_generator.manual_seed(seed)
    try:
        value = function(*inputs)
    except Exception as error:   # noqa: BLE001
        return _Outcome(error=error)
    changed = tuple(i for i, pair in enumerate(zip(inputs, case)) if _written_into(*pair))
    return _Outcome(value=value, changed=changed)


def _clone(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if type(value) in (tuple, list):
        return type(value)(_clone(part) for part in value)
    if type(value) is dict:
        return {key: _clone(part) for key, part in value.items()}
    return copy.deepcopy(value)


def _written_into(after: Any, before: Any) -> bool:
    """Whether a tensor, or a list, tuple or dict of tensors and numbers, is no longer what it was."""
    return isinstance(before, (Tensor, list, tuple, Mapping)) and difference(after, before, 0.0) is not None


# --- judging what it gave

def _same(one: _Outcome, other: _Outcome, tolerance: float) -> bool:
    """The same value within the tolerance, or the same exception with the same message."""
    if one.error or other.error:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    return difference(one.value, other.value, tolerance) is None


def _recognise(exercise: Exercise, given: list[_Outcome], cases: list[tuple], seed: int) -> Mistake | None:
    """The first known mistake that gives what the answer gave, on every case."""
    for mistake in exercise.mistakes:
        known = _outcomes(exercise, mistake.answer, cases, seed)
        if all(_same(one, other, exercise.tolerance) for one, other in zip(given, known)):
            return mistake
    return None


def _unfinished(value: Any) -> bool:
    """Whether a value is `...`, or holds one."""
    if type(value) in (tuple, list):
        return any(_unfinished(part) for part in value)
    return any(map(_unfinished, value.values())) if type(value) is dict else value is ...


def _is_stub(outcome: _Outcome) -> bool:
    """Whether a call met `raise NotImplementedError` or gave `...`; torch's own NotImplementedError is a real error."""
    if not isinstance(outcome.error, NotImplementedError):
        return _unfinished(outcome.value)
    frame, line = list(traceback.walk_tb(outcome.error.__traceback__))[-1]
    return not str(outcome.error) or "raise NotImplementedError" in linecache.getline(frame.f_code.co_filename, line)


def _wrong_kind(exercise: Exercise, answer: Any) -> str:
    """Why an answer is not even of the kind asked for; empty where it is."""
    wants_function = callable(exercise.solution)
    if wants_function and not callable(answer):
        return (f"Expected a function, got {describe(answer)}. Give the function itself, without calling it: "
                f'`check("{exercise.id}", my_function)`.')
    if not wants_function and callable(answer):
        return f"Expected a value, got the function `{_name(answer)}`. Call it, and give what it returns."
    if inspect.isclass(answer) and not inspect.isclass(exercise.solution) and exercise.prepare is None:
        return f"Expected a function, got the class `{answer.__name__}`. Give an instance of it, or a function."
    return ""


def _require_reference(exercise: Exercise, expected: list[_Outcome]) -> None:
    """A reference that raises is the book's fault, not the reader's: let it be seen."""
    for outcome in expected:
        if outcome.error:
            raise LabError(f"Exercise {exercise.id!r}: its reference raises {outcome.error!r}") from outcome.error


# --- saying it

def _not_started(exercise: Exercise) -> CheckResult:
    return CheckResult("not started", exercise.id, "Put your answer where `raise NotImplementedError` or `...` stands, "
                       "then run the cell again.")


def _praise(exercise: Exercise, given: list[_Outcome], expected: list[_Outcome]) -> str:
    points = f"{exercise.points} point{'s' if exercise.points != 1 else ''}"
    if exercise.cases is None:
        return f"Right ({points})."
    cases = f"All {len(given)} freshly drawn cases agree" if len(given) > 1 else "The freshly drawn case agrees"
    extra = [one for one, other in zip(given, expected) if set(one.changed) - set(other.changed)]
    return f"{cases} ({points}).{_warning(extra[0]) if extra else ''}"


def _warning(outcome: _Outcome) -> str:
    """Says that inputs were written into; empty where they were not."""
    if not outcome.changed:
        return ""
    numbers = ", ".join(str(index + 1) for index in outcome.changed)
    return (f" Mind that your function changes its input in place (argument {numbers}): whoever called it loses the "
            "original. Work on a new tensor, or on `.clone()`.")


def _hint(exercise: Exercise, mistake: Mistake, outcome: _Outcome, seed: int) -> CheckResult:
    """The mistake's hint; from the second time in this session on, the stronger one."""
    key = (exercise.id, mistake.name)
    _attempts[key] += 1
    hint = mistake.hint if _attempts[key] == 1 else mistake.stronger
    if outcome.error:
        blame = _blame(outcome.error)
        hint = f"{blame[0].upper()}{blame[1:]} {hint}"
        return CheckResult("error", exercise.id, hint, mistake=mistake.name, seed=seed)
    return CheckResult("wrong", exercise.id, hint, mistake=mistake.name, seed=seed)


def _explain(exercise: Exercise, index: int, cases: list[tuple], given: _Outcome, expected: _Outcome,
             seed: int) -> CheckResult:
    """An answer that is none of the known wrong ones: the first case that fails, and how."""
    if exercise.cases is None:
        text = _blame(given.error) if given.error else _value_verdict(given.value, expected.value, exercise.tolerance)
        return CheckResult("error" if given.error else "wrong", exercise.id, text, seed=seed)
    where = f"Case {index + 1} of {len(cases)}, called with {', '.join(map(describe, cases[index]))}: "
    if given.error:
        return CheckResult("error", exercise.id, where + _blame(given.error), seed=seed)
    found = difference(given.value, expected.value, exercise.tolerance)
    return CheckResult("wrong", exercise.id, f"{where}{found.text}.{_warning(given)}",
                       beside(given.value, expected.value), seed=seed)


def _value_verdict(given: Any, expected: Any, tolerance: float) -> str:
    """What is wrong with a value, without giving the expected one away: its kind, its direction, no more."""
    found = difference(given, expected, tolerance, "Your answer")
    if found.discreet:
        return f"{found.text}."
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return f"{item(given)} is too {'low' if given < expected else 'high'}."
    return "That is not it, though its type and size are right."


def _blame(error: Exception) -> str:
    """The reader's own line that raised, and the message; library frames are passed over."""
    message = str(error).strip().rstrip(".")[:400]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    own = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_readers(frame)]
    if not own:
        return f"the call itself raised {what}."
    frame, line = own[-1]
    code = linecache.getline(frame.f_code.co_filename, line).strip()
    at = f"line {line - frame.f_code.co_firstlineno + 1} of `{frame.f_code.co_name}`"
    return f"{at}{f', `{code}`,' if code else ''} raised {what}."


def _is_readers(frame: FrameType) -> bool:
    filename = frame.f_code.co_filename
    return not filename.startswith(("<frozen", *_LIBRARIES))


def _name(answer: Any) -> str:
    return getattr(answer, "__name__", type(answer).__name__)
