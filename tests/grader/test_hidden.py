"""Hidden cases: several draws, secret unless a seed is given, the same for everybody."""

import pytest

from lightvit_grader.hidden import DRAWS, examine_hidden, fresh_seed, hidden_seeds, require_passed
from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises, examine, find

EXERCISES = list(all_exercises())


def test_seeds_are_the_same_for_a_class_differ_between_exercises_and_are_never_those_of_check():
    assert hidden_seeds(1, "a.b") == hidden_seeds(1, "a.b") != hidden_seeds(1, "a.c")
    assert hidden_seeds(2, "a.b") != hidden_seeds(1, "a.b")
    assert len(set(hidden_seeds(1, "a.b"))) == DRAWS > 1 and min(hidden_seeds(1, "a.b")) >= 10**6
    assert len({fresh_seed() for _ in range(20)}) > 15


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_the_solution_passes_the_hidden_cases_and_no_known_mistake_does(exercise):
    seeds = hidden_seeds(5, exercise.id)
    assert examine_hidden(exercise, exercise.solution, seeds).status == "passed"
    for mistake in exercise.mistakes:
        result = examine_hidden(exercise, mistake.answer, seeds)
        assert result.status != "passed" and result.mistake == mistake.name
        assert mistake.hint in result.message                                # the first hint, however often it was met


def test_an_answer_that_knows_the_cases_of_the_first_draw_does_not_pass():
    exercise = find("vision_transformer.block_macs")
    seeds = hidden_seeds(5, exercise.id)
    table = {}

    def record(*inputs):
        table[inputs] = exercise.solution(*inputs)
        return table[inputs]

    examine(exercise, record, seeds[0])

    def learnt(*inputs):
        return table.get(inputs, 0)

    assert examine(exercise, learnt, seeds[0]).status == "passed"
    assert examine_hidden(exercise, learnt, seeds).status == "wrong"


def test_the_test_cell_of_nbgrader_raises_with_the_hint_and_is_silent_on_a_right_answer():
    assert require_passed("vision_transformer.count", 577) is None
    with pytest.raises(LabError, match="vision_transformer.count is not started"):
        require_passed("vision_transformer.count", ...)
    with pytest.raises(LabError, match="image tokens"):
        require_passed("vision_transformer.count", 576)
