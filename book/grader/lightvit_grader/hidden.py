"""Hidden cases: an answer is tried on several draws of inputs that it has not seen, not on one."""

from __future__ import annotations

import random
import secrets
from typing import Any

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import CheckResult, Exercise, examine, find, reset

DRAWS = 5   # `check` makes one


def fresh_seed() -> int:
    """A seed that nobody knows beforehand."""
    return secrets.randbits(31)


def hidden_seeds(seed: int, exercise_id: str, draws: int = DRAWS) -> list[int]:
    """The seeds of the hidden cases of one exercise, the same for everybody with this `seed`."""
    return random.Random(f"{seed} {exercise_id}").sample(range(10**6, 2**31), draws)


def examine_hidden(exercise: Exercise, answer: Any, seeds: list[int]) -> CheckResult:
    """The result of the first draw that the answer does not pass, or of the last.

    The hint is always the first, gentle one.
    """
    for seed in seeds[:1] if exercise.cases is None and exercise.prepare is None else seeds:
        reset()
        result = examine(exercise, answer, seed)
        if result.status != "passed":
            break
    return result


def require_passed(exercise_id: str, answer: Any, draws: int = DRAWS) -> None:
    """For a test cell of nbgrader: raises LabError, which says why, unless the answer passes.

    It runs in the process of the learner's code, which could change it: `lightvit-lab grade` is the
    one that judges from outside.
    """
    result = examine_hidden(find(exercise_id), answer,
                            hidden_seeds(fresh_seed(), exercise_id, draws))
    if result.status != "passed":
        raise LabError(f"{exercise_id} is {result.status}: {result.message}")
