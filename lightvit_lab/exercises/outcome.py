"""Exercises that are judged by what an answer leads to: a limit respected, a quality reached.

A judge tries a decision, on a model or on a stored table, and gives two things: the name of what
is wrong with it, "" where nothing is, and a sentence with what was measured. Whatever keeps to
the limit and is good enough passes, not only the page's own answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .conversion import item

Judge = Callable[..., tuple[str, str]]


class Verdict(str):
    """The name of what is wrong, "" where nothing is, and in `measured` what was measured."""

    measured: str

    def __new__(cls, fault: str, measured: str) -> Verdict:
        verdict = super().__new__(cls, fault)
        verdict.measured = measured
        return verdict


def by_outcome(judge: Judge) -> Callable[[Any], Any]:
    """The `prepare` of an exercise that a judge decides.

    `judge(decision, *case)` gives fault and sentence. The answer is the decision, or a function
    that decides case by case.
    """
    def prepared(answer: Any) -> Any:
        if callable(answer):
            return lambda *case: Verdict(*judge(answer(*case), *case))
        return Verdict(*judge(answer))
    return prepared


def numbers(answer: Any, keys: Sequence[Any]) -> tuple[float, ...] | None:
    """A list, tuple, tensor or array of len(keys) numbers, or a dict of these keys, as floats.

    None where it is anything else, or holds anything that is not a finite number.
    """
    if isinstance(answer, Mapping):
        answer = [answer[key] for key in keys] if set(answer) == set(keys) else None
    try:
        found = tuple(float(item(value)) for value in answer)
    except (TypeError, ValueError):
        return None
    finite = all(abs(value) < float("inf") for value in found)
    return found if len(found) == len(keys) and finite else None


def pairs(answer: Any, firsts: Sequence[Any], seconds: Sequence[Any]) -> frozenset | None:
    """A list, set or tensor of pairs, each of one of both lists; None where it is anything else."""
    try:
        found = [tuple(map(item, pair)) for pair in answer]
    except TypeError:
        return None
    if not all(len(pair) == 2 and pair[0] in firsts and pair[1] in seconds for pair in found):
        return None
    return frozenset((firsts[firsts.index(one)], seconds[seconds.index(other)])
                     for one, other in found)
