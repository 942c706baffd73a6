"""What an exercise is: the points, the minutes and the cases that its file declares.

Title, prompt and the code to start from stand on its page. What the page says lies in
`<part>/<stem>.json`, written by `make notebooks`. Solutions and known wrong answers lie in
`answers/` and are read when somebody asks for them, so that a notebook can be graded where they
are not at hand.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import LabError, plain_numbers, require_choice, require_range
from .typed import UNITS, Digits

FOLDER = Path(__file__).parent


class Posed(NamedTuple):
    """What a page says of one of its exercises, in Markdown; `stub` is the code to start from."""

    title: str
    prompt: str
    stub: str = ""


class Known(NamedTuple):
    """A known wrong answer: name, answer, the hint it gets, and the hint of the next time.

    `answer` is a callable of the solution's signature, or a value.
    """

    name: str
    answer: Any
    hint: str
    stronger: str


class Answers(NamedTuple):
    """The right answer, a callable or a value, its code on the page, and known wrong ones."""

    solution: Any
    mistakes: tuple[Known, ...] = ()
    code: str = ""


@plain_numbers
@dataclass(frozen=True)
class Exercise:
    """One exercise: its points, its minutes, its cases.

    Its id is "<stem>.<name>"; the stem is that of its page and of its file.

    `cases(generator)` draws inputs, a list of tuples of arguments; None where the answer is a
    value. `tolerance` is relative and absolute; whole numbers are compared exactly. Of a value that
    is typed, `digits` says how many significant digits count: the prompt asks for them, and no
    known mistake may agree in them; `unit` "share" also takes percent, "percent" takes "14.3 %".
    `prepare`, where given, turns an answer
    (a module, a class) into the callable or value that is compared; it is called on solution,
    mistakes and answer alike, same seed. `seconds` is how long one call may take. `names` are those
    that the solution takes from its page, besides torch, nn, F, Tensor, copy and math. `posed` and
    `answers` are the page's unless they are given. Raises LabError on a declaration that cannot
    work.
    """

    id: str
    points: int
    minutes: int
    cases: Callable[[torch.Generator], list[tuple]] | None = None
    tolerance: float = 1e-5
    digits: int | None = None
    unit: str = ""
    prepare: Callable[[Any], Any] | None = None
    seconds: float = 10.0
    names: Mapping[str, Any] = field(default_factory=dict)
    posed: Posed | None = None
    answers: Answers | None = None

    def __post_init__(self) -> None:
        caller = _require_worth(self)
        require_range(caller, "tolerance", self.tolerance, 0)
        require_range(caller, "seconds", self.seconds, 0.1)
        require_range(caller, "digits", self.digits or 1, 1, 9)
        require_choice(caller, "unit", self.unit, UNITS)
        if self.answers is not None:
            require_fitting(self, self.answers)

    @property
    def closeness(self) -> float | Digits:
        """How closely an answer must agree."""
        return Digits(self.digits) if self.digits else self.tolerance

    @property
    def title(self) -> str:
        """The heading of its box on the page."""
        return (self.posed or posed_by_page(self.id)).title

    @property
    def prompt(self) -> str:
        """What it asks, in Markdown."""
        return (self.posed or posed_by_page(self.id)).prompt

    @property
    def stub(self) -> str:
        """The code that a reader starts from."""
        return (self.posed or posed_by_page(self.id)).stub

    @property
    def solution(self) -> Any:
        """The right answer, a callable or a value: what the page's own code gives."""
        return self._answers().solution

    @property
    def mistakes(self) -> tuple[Known, ...]:
        """The known wrong answers."""
        return self._answers().mistakes

    @property
    def code(self) -> str:
        """The solution as it stands on the page, without the check."""
        return self._answers().code

    def _answers(self) -> Answers:
        return self.answers or importlib.import_module(f"{__package__}.answers").of(self)


@plain_numbers
@dataclass(frozen=True)
class OpenExercise:
    """A question that no program judges: a box without check.

    A teacher gives up to `points` by hand, by the rubric that stands in `answers/`; no total
    counts them. Raises LabError on an id of another form.
    """

    id: str
    points: int
    minutes: int
    posed: Posed | None = None

    def __post_init__(self) -> None:
        _require_worth(self)

    title, prompt = Exercise.title, Exercise.prompt

    @property
    def rubric(self) -> tuple[tuple[int, str], ...]:
        """What a good answer says: pairs of points and a sentence."""
        return importlib.import_module(f"{__package__}.answers").rubric_of(self.id)


def _require_worth(exercise: Exercise | OpenExercise) -> str:
    """Check id, points and minutes; returns the name of the exercise for messages."""
    caller = f"Exercise {exercise.id!r}"
    if exercise.id.count(".") != 1:
        raise LabError(f'{caller}: give an id of the form "<stem of the page>.<name>"')
    require_range(caller, "points", exercise.points, 1)
    require_range(caller, "minutes", exercise.minutes, 1)
    return caller


def require_fitting(exercise: Exercise, answers: Answers) -> None:
    """Raises LabError where solution, cases and mistakes are not of one kind."""
    function = callable(answers.solution)
    if function and exercise.cases is None and exercise.prepare is None:
        raise LabError(f"Exercise {exercise.id!r}: its solution is a function, so give "
                       "cases(generator) that draws its inputs")
    for mistake in answers.mistakes:
        if callable(mistake.answer) != function:
            raise LabError(f"Exercise {exercise.id!r}: mistake {mistake.name!r} is not of the "
                           "solution's kind (function or value)")


def posed_by_page(exercise_id: str) -> Posed:
    """Title, prompt and stub of an exercise, from its page. Raises LabError where it has none."""
    stem = exercise_id.partition(".")[0]
    found = _of_page(stem).get(exercise_id)
    if found is None:
        raise LabError(f"Exercise {exercise_id!r}: its page poses none of this id, or has changed "
                       "since `make notebooks`; run it")
    return Posed(**found)


@cache
def _of_page(stem: str) -> dict[str, dict[str, str]]:
    files = list(FOLDER.glob(f"*/{stem}.json"))
    return json.loads(files[0].read_text(encoding="utf-8")) if files else {}
