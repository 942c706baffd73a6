"""The check of an exercise: it says which mistake an answer looks like.

A check takes the reader's own live object, never a file, and tries it on freshly drawn inputs
beside the reference and beside known wrong answers. It never raises because of what the reader
wrote, and never shows the reference.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import linecache
import pkgutil
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import LabError, plain_numbers, require_choice
from . import messages, record
from .comparison import describe, difference
from .conversion import item
from .declaration import Answers, Exercise, Known, OpenExercise, Posed
from .result import CheckResult
from .outcome import Verdict
from .running import Outcome, draw, outcomes
from .typed import Digits, readings

__all__ = ["Answers", "CheckResult", "Exercise", "Known", "OpenExercise", "Posed",
           "all_exercises", "check", "examine", "find", "open_exercises", "page_of", "reset"]

_PACKAGE = __name__.rpartition(".")[0]
_FOLDER = Path(__file__).parent
# how often each known mistake was made in this session
_attempts: Counter[tuple[str, str]] = Counter()
_seeds = itertools.count(1)


def check(exercise_id: str, answer: Any) -> CheckResult:
    """Try an answer (function, module or value) on an exercise; `progress()` remembers it.

    Raises LabError only on an unknown id.
    """
    result = examine(find(exercise_id), answer)
    record.note(result.exercise_id, result.status)
    return result


@plain_numbers
def examine(exercise: Exercise, answer: Any, seed: int | None = None) -> CheckResult:
    """Try an answer without remembering it; each call takes a new `seed` unless one is given."""
    if _unfinished(answer):
        return messages.not_started(exercise)
    refusal = _wrong_kind(exercise, answer)
    if refusal:
        return CheckResult("wrong", exercise.id, refusal)
    seed = next(_seeds) if seed is None else seed
    if not exercise.digits:
        return _judge(exercise, answer, seed)
    results = []                       # of each way in which a typed value may be meant
    for value, remark in readings(answer, exercise.unit):
        result = _judge(exercise, value, seed)
        results.append(replace(result, message=result.message + remark))
    return min(results, key=lambda result: (result.status != "passed", result.mistake is None))


def _judge(exercise: Exercise, answer: Any, seed: int) -> CheckResult:
    """Compare an answer with the reference, then with the known mistakes."""
    cases = draw(exercise, seed)
    given = outcomes(exercise, answer, cases, seed)
    if any(_is_stub(outcome) for outcome in given):
        return messages.not_started(exercise)
    expected = outcomes(exercise, exercise.solution, cases, seed)
    _require_reference(exercise, expected)
    failing = next((i for i, pair in enumerate(zip(given, expected))
                    if not _same(*pair, exercise.closeness)), None)
    if failing is None:
        return messages.passed(exercise, given, expected, seed)
    if exercise.digits and messages.is_too_coarse(exercise, given[0].value, expected[0].value):
        return messages.too_coarse(exercise, given[0].value, seed)
    mistake = _recognise(exercise, given, expected, cases, failing, seed)
    outcome = _explained(exercise, answer, given[failing], cases[failing], seed)
    if mistake:
        _attempts[exercise.id, mistake.name] += 1
        first = _attempts[exercise.id, mistake.name] == 1
        return messages.known(exercise, mistake, mistake.hint if first else mistake.stronger,
                              outcome, seed)
    return messages.unknown(exercise, failing, cases, outcome, expected[failing], seed)


def reset() -> None:
    """Forget the attempts of this session and restart the seeds; `progress()` is not touched."""
    global _seeds
    _attempts.clear()
    _seeds = itertools.count(1)


# --- finding exercises

def find(exercise_id: str) -> Exercise:
    """The exercise of this id; only the file of its stem is imported.

    Raises LabError with the closest id.
    """
    module = _modules().get(str(exercise_id).partition(".")[0])
    for exercise in _declared(module) if module else ():
        if exercise.id == exercise_id:
            return exercise
    if module and any(question.id == exercise_id for question in _open(module)):
        raise LabError(f"check: {exercise_id!r} is an open question: no program judges it. Compare "
                       "your answer with somebody else's, or hand it in")
    known = [exercise.id for exercise in all_exercises()]
    require_choice("check", "exercise_id", exercise_id, known)
    raise LabError(f"check: {exercise_id!r} is declared in another file than that of its stem; "
                   "move it there")


def all_exercises() -> Iterator[Exercise]:
    """Every exercise of the book, file by file."""
    for module in _modules().values():
        yield from _declared(module)


def open_exercises() -> Iterator[OpenExercise]:
    """Every question of the book that no program judges, file by file."""
    for module in _modules().values():
        yield from _open(module)


def page_of(exercise: Exercise | OpenExercise) -> str:
    """The page an exercise stands on, as `<part>/<stem>`."""
    return "/".join(_modules()[exercise.id.partition(".")[0]].split(".")[-2:])


def _modules() -> dict[str, str]:
    """Stem -> module name, for each file in the parts of this package; nothing is imported."""
    parts = [part.name for part in pkgutil.iter_modules([str(_FOLDER)])
             if part.ispkg and part.name != "answers"]
    return {file.name: f"{_PACKAGE}.{part}.{file.name}"
            for part in parts for file in pkgutil.iter_modules([str(_FOLDER / part)])}


def _declared(module: str) -> tuple[Exercise, ...]:
    return importlib.import_module(module).EXERCISES


def _open(module: str) -> tuple[OpenExercise, ...]:
    return getattr(importlib.import_module(module), "OPEN", ())


# --- judging what an answer gave

def _same(one: Outcome, other: Outcome, tolerance: float | Digits) -> bool:
    """The same value within the tolerance, or the same exception with the same message."""
    if one.error or other.error:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    return difference(one.value, other.value, tolerance) is None


def _recognise(exercise: Exercise, given: list[Outcome], expected: list[Outcome],
               cases: list[tuple], failing: int, seed: int) -> Known | None:
    """The first known mistake that gives what the answer gave, on every case.

    Of a typed value, rounded to two digits or more, the closest, and none that is farther away than
    the solution. A judge names a fault for each case: that of the `failing` one counts.
    """
    if exercise.digits:
        return _closest(exercise, item(given[0].value), item(expected[0].value))
    judged = isinstance(given[failing].value, Verdict)
    compared = [failing] if judged else range(len(cases))

    def is_made(mistake: Known) -> bool:
        known = outcomes(exercise, mistake.answer, cases, seed)
        return all(_same(given[case], known[case], exercise.closeness) for case in compared)

    return next(filter(is_made, exercise.mistakes), None)


def _closest(exercise: Exercise, given: Any, right: float) -> Known | None:
    """The known mistake whose value was typed, if it lies closer than the right one."""
    if type(given) not in (int, float):
        return None
    closest = min(exercise.mistakes, key=lambda mistake: abs(mistake.answer - given), default=None)
    if closest is None or abs(closest.answer - given) >= abs(right - given):
        return None
    digits, value = exercise.closeness, float(closest.answer)
    made = digits.agree(given, value) or digits.too_coarse(given, value, least=2)
    return closest if made else None


def _explained(exercise: Exercise, answer: Any, given: Outcome, case: tuple,
               seed: int) -> Outcome:
    """The outcome, with a sentence where the check's own code failed on what was returned."""
    unprepared = given.error and exercise.prepare and exercise.cases
    if not unprepared or inspect.isclass(answer) or not callable(answer):
        return given
    bare = replace(exercise, prepare=None)
    own, reference = (outcomes(bare, each, [case], seed)[0]
                      for each in (answer, exercise.solution))
    if own.error or reference.error:
        return given
    return replace(given, problem=messages.unusable(own.value, reference.value, given.error))


def _unfinished(value: Any) -> bool:
    """Whether a value is `...`, or holds one."""
    if type(value) in (tuple, list):
        return any(_unfinished(part) for part in value)
    return any(map(_unfinished, value.values())) if type(value) is dict else value is ...


def _is_stub(outcome: Outcome) -> bool:
    """Whether a call met `raise NotImplementedError` or gave `...`.

    A NotImplementedError of torch's own is a real error.
    """
    if not isinstance(outcome.error, NotImplementedError):
        return _unfinished(outcome.value)
    frame, line = list(traceback.walk_tb(outcome.error.__traceback__))[-1]
    source = linecache.getline(frame.f_code.co_filename, line)
    return not str(outcome.error) or "raise NotImplementedError" in source


def _wrong_kind(exercise: Exercise, answer: Any) -> str:
    """Why an answer is not even of the kind asked for; empty where it is."""
    solution, is_class = exercise.solution, inspect.isclass(answer)
    if callable(solution) and not callable(answer):
        return (f"Expected a function, got {describe(answer)}. Give the function itself, without "
                f'calling it: `check("{exercise.id}", my_function)`.')
    if not callable(solution) and callable(answer):
        return f"Expected a value, got {_name(answer)}. Call it, and give what it returns."
    if is_class and not inspect.isclass(solution) and exercise.prepare is None:
        return f"Expected a function, got {_name(answer)}. Give an instance of it, or a function."
    if inspect.isclass(solution) and not is_class:
        return f"Expected a class, got {_name(answer)}. Give the class itself, without calling it."
    return ""


def _require_reference(exercise: Exercise, expected: list[Outcome]) -> None:
    """Raise LabError where the solution itself raises: that is the book's fault."""
    for outcome in expected:
        if outcome.error:
            text = f"Exercise {exercise.id!r}: its reference raises {outcome.error!r}"
            raise LabError(text) from outcome.error


def _name(answer: Any) -> str:
    """A callable in words."""
    if inspect.isclass(answer):
        return f"the class `{answer.__name__}`"
    name = getattr(answer, "__name__", None)
    return f"the function `{name}`" if name else f"an instance of `{type(answer).__name__}`"
