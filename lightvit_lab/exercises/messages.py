"""What a check says: what passed, which mistake was made, or where the answer differs."""

from __future__ import annotations

import linecache
import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from .comparison import both_values, describe, difference
from .conversion import alike, item, remark
from .declaration import Exercise, Known
from .drawing import comparison_drawing
from .limits import TimeUp, seconds_allowed
from .outcome import Verdict
from .result import CheckResult
from .running import Outcome

# frames from these folders are never the reader's line
_PATHS = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES = tuple(folder + os.sep for folder in (str(Path(__file__).parents[1]), *_PATHS))


def not_started(exercise: Exercise) -> CheckResult:
    """The result for a stub, which is no mistake."""
    return CheckResult("not started", exercise.id,
                       "Put your answer where `raise NotImplementedError` or `...` stands, "
                       "then run the cell again.")


def passed(exercise: Exercise, given: list[Outcome], expected: list[Outcome],
           seed: int) -> CheckResult:
    """How many cases agree, how closely, for how many points, and what to mind all the same."""
    points = f"{exercise.points} point{'s' if exercise.points != 1 else ''}"
    pairs = ((one.value, other.value) for one, other in zip(given, expected))
    types = next((text for pair in pairs if (text := remark(*pair))), "")
    if isinstance(given[0].value, Verdict):
        text = f"Right ({points}).{_measured(given[0])}"
        return CheckResult("passed", exercise.id, text, seed=seed, printed=given[0].printed)
    if exercise.cases is None:
        return CheckResult("passed", exercise.id, f"Right ({points}).{types}", seed=seed)
    cases = "The freshly drawn case agrees"
    if len(given) > 1:
        cases = f"All {len(given)} freshly drawn cases agree"
    extra = [one for one, other in zip(given, expected) if set(one.changed) - set(other.changed)]
    warning = _warning(extra[0]) if extra else ""
    text = f"{cases} within {exercise.tolerance:g} ({points}).{types}{warning}"
    if given[0].was_training:
        text += (" Your module is in train mode, in which its dropout or batch norm gives other "
                 "outputs: it was tried as in `.eval()`.")
    return CheckResult("passed", exercise.id, text, seed=seed, printed=given[0].printed)


def is_too_coarse(exercise: Exercise, given: Any, expected: Any) -> bool:
    """Whether a typed number is the right one, rounded to too few digits."""
    numbers = item(given), item(expected)
    if not all(type(number) in (int, float) for number in numbers):
        return False
    return exercise.closeness.too_coarse(*numbers)


def too_coarse(exercise: Exercise, given: Any, seed: int) -> CheckResult:
    """The result for a number with too few digits, which is no mistake yet and not right."""
    text = (f"{item(given):g} may be right, but has too few digits to tell: give "
            f"{exercise.closeness}.")
    return CheckResult("wrong", exercise.id, text, seed=seed)


def unusable(given: Any, expected: Any, error: BaseException) -> str:
    """What was returned, where the check's own code fails on it, and what was expected."""
    kinds = [_structure(value) for value in (given, expected)]
    if kinds[0] != kinds[1]:
        return f"it returned {kinds[0]}; expected {kinds[1]}."
    return (f"it returned {kinds[0]}, with which the check cannot go on "
            f"({type(error).__name__}: {str(error)[:200]}).")


def _structure(value: Any) -> str:
    """A value in words, of a tuple, list or dict each part."""
    if isinstance(value, dict):
        parts = ", ".join(f"{key!r}: {_structure(part)}" for key, part in value.items())
        return f"a dict ({parts})"
    if not isinstance(value, (tuple, list)):
        return "None (is a `return` missing?)" if value is None else describe(value)
    return f"a {type(value).__name__} of {len(value)} ({', '.join(map(_structure, value))})"


def known(exercise: Exercise, mistake: Known, hint: str, outcome: Outcome,
          seed: int) -> CheckResult:
    """The result for a known mistake: its hint; the reader's line before it where it raises."""
    status, text = "wrong", hint
    if outcome.error:
        problem = outcome.problem or _error_text(outcome.error, exercise)
        status, text = "error", f"{problem[0].upper()}{problem[1:]} {hint}"
    return CheckResult(status, exercise.id, text + _measured(outcome), mistake=mistake.name,
                       seed=seed, printed=outcome.printed)


def unknown(exercise: Exercise, index: int, cases: list[tuple], given: Outcome, expected: Outcome,
            seed: int) -> CheckResult:
    """An answer that is none of the known wrong ones: the first case that fails, and how."""
    single = exercise.cases is None
    called = ", ".join(map(describe, cases[index]))
    where = "" if single else f"Case {index + 1} of {len(cases)}, called with {called}: "
    if given.error:
        text = where + (given.problem or _error_text(given.error, exercise))
        return CheckResult("error", exercise.id, text, seed=seed, printed=given.printed)
    if isinstance(given.value, Verdict):
        text = f"{where}That is not it.{_measured(given)}"
        return CheckResult("wrong", exercise.id, text, seed=seed, printed=given.printed)
    if single:   # its reference is the answer itself, so nothing of it is shown
        text = _value_verdict(exercise, given.value, expected.value)
        return CheckResult("wrong", exercise.id, text, seed=seed)
    found = difference(given.value, expected.value, exercise.tolerance)
    return CheckResult("wrong", exercise.id, f"{where}{found.text}.{_warning(given)}",
                       both_values(given.value, expected.value), seed=seed, printed=given.printed,
                       drawing=comparison_drawing(alike(given.value, expected.value),
                                                  expected.value))


def _measured(outcome: Outcome) -> str:
    """What the judge of a decision measured; empty for other exercises."""
    return f" {outcome.value.measured}" if isinstance(outcome.value, Verdict) else ""


def _warning(outcome: Outcome) -> str:
    """Says that inputs were written into; empty where they were not."""
    if not outcome.changed:
        return ""
    numbers = ", ".join(str(index + 1) for index in outcome.changed)
    return (f" Mind that your function changes its input in place (argument {numbers}): whoever "
            "called it loses the original. Work on a new tensor, or on `.clone()`.")


def _value_verdict(exercise: Exercise, given: Any, expected: Any) -> str:
    """What is wrong with a value, without giving the expected one away: its kind, its direction."""
    found = difference(given, expected, exercise.closeness, "Your answer")
    if found.discreet:
        return f"{found.text}."
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        wanted = f" It is asked for to {exercise.closeness}, rounded." if exercise.digits else ""
        number = f"{item(given):.12g}" if isinstance(item(given), float) else item(given)
        return f"{number} is too {'low' if item(given) < expected else 'high'}.{wanted}"
    return "That is not it, though its type and size are right."


def _error_text(error: BaseException, exercise: Exercise) -> str:
    """The reader's own line that raised, and the message; library frames are passed over."""
    own = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
           if _is_readers(frame)]
    at = _line(*own[-1]) if own else ""
    if isinstance(error, TimeUp):
        place = f" at {at.removesuffix(',')}" if at else ""
        return (f"it did not end within {seconds_allowed(exercise.seconds):g} s and was "
                f"stopped{place}. Is there a loop whose end is never reached?")
    if isinstance(error, SystemExit):
        return f"{at or 'the call'} asks Python to exit. Give the result with `return` instead."
    message = str(error).strip().rstrip(".")[:400]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{at or 'the call itself'} raised {what}.{_device_advice(message)}"


def _line(frame: FrameType, line: int) -> str:
    """A line of the reader's by its number in its function, and its code where that can be read."""
    code = linecache.getline(frame.f_code.co_filename, line).strip()
    at = f"line {line - frame.f_code.co_firstlineno + 1} of `{frame.f_code.co_name}`"
    return f"{at}, `{code}`," if code else at


def _is_readers(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith(("<frozen", *_LIBRARIES))


def _device_advice(message: str) -> str:
    """What mends torch's complaint about tensors on two devices; empty for any other message."""
    if "same device" not in message and "expected device" not in message:
        return ""
    return (" A function is checked with inputs on the cpu: make your own tensors where the "
            "input is, `torch.zeros(n, device=x.device)`. A module gets its inputs where its "
            "weights are.")
