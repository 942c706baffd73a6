"""What an exercise is: a short declaration with its known answer and its known wrong answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import LabError, plain_numbers, require_range


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer: a short name, the answer itself, the hint it draws and the one it draws
    the next time.

    `answer` is of the solution's kind: a callable of the same signature, or a value.
    """

    name: str
    answer: Any
    hint: str
    stronger: str


@plain_numbers
@dataclass(frozen=True)
class Exercise:
    """One exercise. Its id is "<stem>.<name>", the stem being that of its page and of the file that
    declares it.

    `solution` is the reference: a callable, or a value (then `cases` is None). `cases(generator)`
    draws the inputs, a list of tuples of arguments. `tolerance` is relative and absolute; tensors
    of integers are compared exactly, and so are whole numbers unless the tolerance is 1e-3 or more.
    `prepare`, where given, turns an answer (a module, a class) into the callable or value that is
    compared; it is called on solution, mistakes and answer alike, same seed. `seconds` is how long
    one call may take. Raises LabError on a declaration that cannot work.
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
    seconds: float = 10.0

    def __post_init__(self) -> None:
        caller = f"Exercise {self.id!r}"
        if self.id.count(".") != 1:
            raise LabError(f'{caller}: give an id of the form "<stem of the page>.<name>"')
        require_range(caller, "points", self.points, 1)
        require_range(caller, "minutes", self.minutes, 1)
        require_range(caller, "tolerance", self.tolerance, 0)
        require_range(caller, "seconds", self.seconds, 0.1)
        if callable(self.solution) and self.cases is None and self.prepare is None:
            raise LabError(f"{caller}: the solution is a function, so give cases(generator) that draws its inputs")
        for mistake in self.mistakes:
            if callable(mistake.answer) != callable(self.solution):
                raise LabError(f"{caller}: mistake {mistake.name!r} is not of the solution's kind (function or value)")
