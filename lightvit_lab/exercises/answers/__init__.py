"""Solutions and known wrong answers. Nothing here is imported before an answer is judged.

A solution stands on the exercise's page alone; `make notebooks` copies its code to
`<part>/<stem>.json`. A wrong answer is the solution with an edit, so it stays one when the solution
is rewritten. The file `<part>/<stem>.py` declares them:

    MISTAKES = {"token_merging.match": (
        Mistake("by product", "You compared by dot products ...", "Normalise first.",
                swap={"F.normalize(metric, dim=-1)": "metric"}),)}
    RUBRICS = {"token_merging.why": ((2, "says that ..."), (1, "knows when ..."))}   # if open
"""

from __future__ import annotations

import copy
import importlib
import json
import linecache
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError
from ..declaration import FOLDER, Answers, Exercise, Known, require_fitting

# The two lines between which a solution cell holds its answer; book/_tools/stubs.py has the same.
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ANSWER = re.compile(rf"^(?P<indent> *){BEGIN} *\n(?P<answer>.*?)^(?P=indent){END} *$",
                    re.DOTALL | re.MULTILINE)
NAMES = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor, "copy": copy, "math": math}
_GIVEN = object()
_cache: dict[str, tuple[Exercise, Answers]] = {}


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer, a hint, and the stronger one of the next try.

    Made in one of three ways: `swap` replaces pieces of the solution's code, wherever they stand,
    all at once, so they may not overlap; `body` replaces all that stands between its markers;
    `answer` is a callable or a value.
    """

    name: str
    hint: str
    stronger: str
    swap: Mapping[str, str] | None = None
    body: str = ""
    answer: Any = _GIVEN

    def of(self, exercise: Exercise, code: str, answer: str) -> Known:
        """The wrong answer itself. Raises LabError where it cannot be made of the solution."""
        if (self.swap is not None) + bool(self.body) + (self.answer is not _GIVEN) != 1:
            raise LabError(f"Exercise {exercise.id!r}: mistake {self.name!r} is made in one way: "
                           "swap=, body= or answer=")
        wrong = self.answer
        if wrong is _GIVEN:
            edited = self._with_body(code) if self.body else self._swapped(exercise.id, code)
            if edited == code:
                raise LabError(f"Exercise {exercise.id!r}: mistake {self.name!r} changes nothing "
                               "in the solution")
            wrong = run(exercise, edited, answer, self.name)
        return Known(self.name, wrong, self.hint, self.stronger)

    def _swapped(self, exercise_id: str, code: str) -> str:
        """The code with all pieces replaced at once: no swap edits what another one wrote."""
        caller, found = f"Exercise {exercise_id!r}: mistake {self.name!r} swaps", []
        for old, new in self.swap.items():
            if not old or old not in code:
                raise LabError(f"{caller} {old!r}, which is not in the solution:\n{code}")
            found += [(*match.span(), new) for match in re.finditer(re.escape(old), code)]
        edited, end = "", 0
        for start, stop, new in sorted(found):
            if start < end:
                raise LabError(f"{caller} pieces that overlap at {code[start:end]!r}; make them "
                               "one, or longer")
            edited, end = edited + code[end:start] + new, stop
        return edited + code[end:]

    def _with_body(self, code: str) -> str:
        body = textwrap.dedent(self.body).strip("\n")
        return ANSWER.sub(lambda block: textwrap.indent(body, block["indent"]), code)


def of(exercise: Exercise) -> Answers:
    """The solution of an exercise and its known wrong answers; made once for each id.

    Raises LabError where its page has no solution, or a mistake cannot be made of it.
    """
    owner, answers = _cache.get(exercise.id, (None, None))
    if owner is None or owner.names is not exercise.names:
        answers = _answers(exercise)
        _cache[exercise.id] = exercise, answers
    return answers


def _answers(exercise: Exercise) -> Answers:
    code, answer = _solved(exercise.id)
    declared = getattr(_declared(exercise.id), "MISTAKES", {}).get(exercise.id, ())
    mistakes = tuple(mistake.of(exercise, code, answer) for mistake in declared)
    lines = (line for line in code.splitlines() if line.strip() not in (BEGIN, END))
    found = Answers(run(exercise, code, answer), mistakes, "\n".join(lines))
    require_fitting(exercise, found)
    return found


def known_mistakes(exercise: Exercise) -> tuple[str, ...]:
    """The names of the known wrong answers of `exercise`; none is made, no solution is run."""
    known = exercise.answers.mistakes if exercise.answers else getattr(
        _declared(exercise.id), "MISTAKES", {}).get(exercise.id, ())
    return tuple(mistake.name for mistake in known)


def rubric_of(exercise_id: str) -> tuple[tuple[int, str], ...]:
    """The rubric of an open exercise. Raises LabError where there is none."""
    rubric = getattr(_declared(exercise_id), "RUBRICS", {}).get(exercise_id)
    if not rubric:
        raise LabError(f"Exercise {exercise_id!r}: it is open, so give it a rubric in RUBRICS, in "
                       "its page's file of exercises/answers")
    return rubric


def run(exercise: Exercise, code: str, answer: str, name: str = "solution") -> Any:
    """What the expression `answer` gives after `code` has run."""
    file = f"<{exercise.id}: {name}>"
    linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file
    scope = {**NAMES, **exercise.names}
    exec(compile(code, file, "exec"), scope)
    return eval(answer, scope)


def _declared(exercise_id: str) -> Any:
    file = _file(exercise_id)
    return importlib.import_module(f"{__package__}.{file.parent.name}.{file.stem}")


def _solved(exercise_id: str) -> tuple[str, str]:
    """The code of the solution on the page, and the expression that is its answer."""
    found = _of_page(_file(exercise_id)).get(exercise_id)
    if found is None:
        raise LabError(f"Exercise {exercise_id!r}: its page has no solution of it, or has changed "
                       "since `make notebooks`; run it")
    return found["code"], found["answer"]


def _file(exercise_id: str) -> Path:
    """The file with the solutions of an exercise's page, whether it is there or not."""
    stem = exercise_id.partition(".")[0]
    declared = next(iter(FOLDER.glob(f"*/{stem}.py")), FOLDER / "of_no_page" / f"{stem}.py")
    return FOLDER / "answers" / declared.parent.name / f"{stem}.json"


@cache
def _of_page(file: Path) -> dict[str, dict[str, str]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
