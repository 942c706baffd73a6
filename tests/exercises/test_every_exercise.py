"""Every exercise of the book: its solution passes, its stub is not started, each known mistake draws its own hint."""

from collections import Counter

import pytest

from lightvit_lab.errors import LabError

from lightvit_lab.exercises import all_exercises, engine, examine, find, open_exercises, page_of, reset
from lightvit_lab.exercises import answers

EXERCISES = list(all_exercises())
# by name: whoever only collects tests makes no answer
MISTAKES = [pytest.param(exercise, name, id=f"{exercise.id}-{name}")
            for exercise in EXERCISES for name in answers.known_mistakes(exercise)]
SEEDS = (1, 2, 3)
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)


@pytest.fixture(autouse=True)
def fresh_session():
    reset()


def stub(*arguments):
    raise NotImplementedError


def test_the_book_has_exercises_and_their_ids_are_unique():
    counts = Counter(exercise.id for exercise in EXERCISES)
    assert counts
    assert {name: count for name, count in counts.items() if count > 1} == {}


def test_every_exercise_is_found_by_its_id_in_the_file_of_its_stem():
    for stem, module in engine._modules().items():
        for exercise in engine._declared(module):
            assert exercise.id.startswith(f"{stem}.")
            assert find(exercise.id) is exercise


@each_exercise
def test_the_declaration_has_a_prompt_and_at_least_two_known_mistakes(exercise):
    assert exercise.title.strip() and exercise.prompt.strip() and "BEGIN SOLUTION" not in exercise.code + exercise.stub
    names = [mistake.name for mistake in exercise.mistakes]
    assert len(set(names)) == len(names) >= 2


@pytest.mark.parametrize("exercise", [exercise for exercise in EXERCISES if exercise.digits],
                         ids=lambda exercise: exercise.id)
def test_a_typed_number_passes_in_each_right_rounding_and_a_mistake_in_none(exercise):
    right = exercise.solution
    roundings = [right, *(float(f"{right:.{digits}g}") for digits in range(exercise.digits, 13))]
    given = [*roundings, *(f"{each} %" for each in roundings if exercise.unit == "percent")]
    given += [part for each in roundings if exercise.unit == "share" for part in (100 * each, f"{100 * each:.12g} %")]
    assert {each: examine(exercise, each).status for each in given} == dict.fromkeys(given, "passed")
    for mistake in exercise.mistakes:
        assert examine(exercise, mistake.answer).mistake == mistake.name
        for digits in range(1, 13):             # a coarse rounding may be that of another mistake, or of the answer
            given = float(f"{mistake.answer:.{digits}g}")
            assert examine(exercise, given).status == ("passed" if given in roundings else "wrong")
    assert f"{('one', 'two', 'three', 'four')[exercise.digits - 1]} digit" in exercise.prompt.lower()


@each_exercise
def test_the_solution_passes_whatever_the_seed(exercise):
    for seed in SEEDS:
        result = examine(exercise, exercise.solution, seed)
        assert result.status == "passed", result
        assert "in place" not in result.message


@each_exercise
def test_the_stub_is_not_started(exercise):
    assert examine(exercise, ...).status == "not started"
    if callable(exercise.solution):
        assert examine(exercise, stub).status == "not started"


@each_exercise
def test_the_stub_of_the_page_is_not_started_and_its_own_code_passes(exercise, monkeypatch):
    for code, status in ((exercise.stub, "not started"), (exercise.code + "\n" + exercise.stub.splitlines()[-1], "passed")):
        results = []
        scope = {"check": lambda _, answer: results.append(examine(exercise, answer, 1)), **answers.NAMES, **exercise.names}
        exec(code, scope)
        assert [result.status for result in results] == [status], code


@pytest.mark.parametrize("question", list(open_exercises()), ids=lambda question: question.id)
def test_an_open_question_has_a_prompt_and_a_rubric_that_gives_all_its_points(question):
    assert question.title and len(question.prompt.split()) > 10 and page_of(question)
    assert sum(points for points, _ in question.rubric) == question.points
    with pytest.raises(LabError, match="open question"):
        find(question.id)


@pytest.mark.parametrize("exercise, name", MISTAKES)
def test_a_known_mistake_draws_its_own_hint_and_no_others_whatever_the_seed(exercise, name):
    (mistake,) = (one for one in exercise.mistakes if one.name == name)
    own = {mistake.hint, mistake.stronger}              # mistakes of one kind may share a hint
    others = {hint for other in exercise.mistakes for hint in (other.hint, other.stronger)} - own
    for seed in SEEDS:
        reset()
        first, second = examine(exercise, mistake.answer, seed), examine(exercise, mistake.answer, seed)
        assert first.status in ("wrong", "error"), first
        assert first.mistake == second.mistake == mistake.name
        assert mistake.hint in first.message and mistake.stronger in second.message
        assert not any(hint in first.message + second.message for hint in others)
    assert mistake.hint.strip() and mistake.stronger.strip() and mistake.hint != mistake.stronger
