"""Answers that no exercise declares: right ones in unusual forms pass, wrong ones never do and draw no false hint.

A try is a dict of edits of the page's solution, the text of another body, or, where a value is asked for, a value.
"""

import os
import runpy
from pathlib import Path

import pytest
import torch

from lightvit_lab.exercises import answers, examine, find, reset
from lightvit_lab.exercises.answers import Mistake

FILES = [runpy.run_path(str(path)) for path in sorted(Path(__file__).with_name("tries").glob("*.py"))]
# how many draws each try meets; LAB_TRY_SEEDS=20 is thorough
SEEDS = range(1, 1 + int(os.environ.get("LAB_TRY_SEEDS", "2")))


def listed(kind):
    return [pytest.param(name, each, id=f"{name}-{label}")
            for file in FILES for name, tries in file[kind].items() for label, each in tries.items()]


def answer_of(exercise, made):
    """The function or value that a try stands for."""
    if not callable(exercise.solution):
        return made
    how = {"body": made} if isinstance(made, str) else {"swap": made}
    return Mistake("a try", "", "", **how).of(exercise, *answers._solved(exercise.id)).answer


@pytest.mark.parametrize("name, made", listed("RIGHT"))
def test_a_right_answer_passes_whatever_its_form(name, made):
    exercise = find(name)
    for seed in SEEDS:
        result = examine(exercise, answer_of(exercise, made), seed)
        assert result.status == "passed", result


@pytest.mark.parametrize("name, made", listed("WRONG"))
def test_a_wrong_answer_never_passes_and_draws_the_hint_that_fits_or_none(name, made):
    exercise, (wrong, hint) = find(name), made
    for seed in SEEDS:
        reset()
        result = examine(exercise, answer_of(exercise, wrong), seed)
        assert result.status in ("wrong", "error") and result.mistake == hint, result


def test_all_the_energy_asks_for_no_more_ranks_than_there_are():
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):                       # in float32 the shares often end just below 1
        values = torch.rand(24, generator=draw).sort(descending=True).values
        assert find("low_rank.energy").solution(values, 1.0) in (23, 24)


def test_each_exercise_here_is_tried_with_right_and_wrong_answers():
    for file in FILES:
        assert file["RIGHT"].keys() == file["WRONG"].keys()
        assert all(len(tries) >= 6 for kind in ("RIGHT", "WRONG") for tries in file[kind].values())
