"""Exercises judged by their outcome: several right decisions pass, and each wrong one hears why."""

import pytest

from lightvit_lab.exercises import examine, find
from lightvit_lab.exercises.outcome import numbers

RIGHT = {
    "token_pruning.schedule": [[0.4] * 6, (0.5, 0.4, 0.4, 1, 1, 1), [0.35, 0.5, 0.6, 0.6, 0.6, 1.0], [0.4, 0.4, 0.4, 1, 1, 1]],
    "pruning.ratios": [[0.65] + [0.95] * 5, [0.7, 0.9, 0.95, 0.95, 0.95, 0.95], (0.8, 0.9, 0.9, 0.9, 0.95, 0.95), [0.5] + [0.98] * 5],
}
WRONG = {
    "token_pruning.schedule": [([1] * 6, "too late"), ([0.06, 1, 1, 1, 1, 1], "all at once"), ([0.1] * 6, "shares of the whole picture"),
                               ([0.4] * 5, None), ([0.4, 0.4, 0.4, 0.4, 0.4, 1.4], None), (0.4, None), ("half", None)],
    "pruning.ratios": [([0] * 6, "shares kept"), ([0.3] + [0.9] * 5, "too many stay"), ([0.92] * 6, "alike"), ([0.97] * 6, "alike"), ([0.96, 0.85, 0.85, 0.9, 0.9, 0.95], "the wrong block"),
                       ([0.9] * 5, None), ([1.0] * 6, None)],
}


@pytest.mark.parametrize("name, answer", [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_another_right_decision_passes_and_its_figures_are_said(name, answer):
    result = examine(find(name), answer)
    assert result.status == "passed", result
    assert any(character.isdigit() for character in result.message.partition("). ")[2])


@pytest.mark.parametrize("name, answer, mistake", [(name, *pair) for name, pairs in WRONG.items() for pair in pairs])
def test_a_decision_that_breaks_the_limit_or_misses_the_quality_is_refused_with_its_reason(name, answer, mistake):
    result = examine(find(name), answer)
    assert result.status == "wrong" and result.mistake == mistake, result
    assert len(result.message.split()) > 8


def test_numbers_come_from_whatever_holds_them():
    import numpy as np
    import torch
    for answer in ([1, 0.5], (1, 0.5), torch.tensor([1, 0.5]), np.array([1, 0.5]), {"a": 1, "b": torch.tensor(0.5)}):
        assert numbers(answer, ["a", "b"]) == (1.0, 0.5)
    for answer in ([1], [1, "x"], [1, float("nan")], [1, None], None, 3, {"a": 1}, {"a": 1, "c": 2}):
        assert numbers(answer, ["a", "b"]) is None
