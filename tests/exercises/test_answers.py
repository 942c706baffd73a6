"""Wrong answers made of the page's solution, and the walls between what is posed and what is solved."""

import subprocess
import sys

import pytest
import torch

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import Exercise, answers, find
from lightvit_lab.exercises.answers import Mistake

CODE = '''def area(width, height):
    """Metres -> square metres."""
    ### BEGIN SOLUTION
    product = width * height
    return product
    ### END SOLUTION'''
AREA = Exercise("sample.area", points=1, minutes=1, cases=lambda generator: [(2, 3)])


def made(mistake, code=CODE, answer="area", exercise=AREA):
    return mistake.of(exercise, code, answer).answer


def test_a_swap_replaces_the_piece_wherever_it_stands():
    assert made(Mistake("sum", "h", "s", swap={"*": "+"}))(2, 3) == 5
    assert made(Mistake("name", "h", "s", swap={"product": "total", "width * ": ""}))(2, 3) == 3


def test_swaps_edit_the_solution_and_not_what_another_swap_wrote():
    code = CODE.replace("width * height", "(width) - (height)")
    turned = Mistake("turned", "h", "s", swap={"(width)": "(height)", "(height)": "(width)"})
    assert made(turned, code)(2, 5) == 5 - 2        # one after the other: width - width


@pytest.mark.parametrize("swap", [
    {"width * height": "1", "height\n": "2\n"}, {"product = width * height": "product = 1", "width * height": "2"},
    {"width * height": "2", "product = width * height": "product = 1"}])
def test_swaps_that_overlap_are_refused_in_any_order(swap):
    with pytest.raises(LabError, match="overlap"):
        made(Mistake("m", "h", "s", swap=swap))


def test_a_body_takes_the_place_of_all_between_the_markers_at_their_indentation():
    loop = """
        total = 0
        for _ in range(width):
            total += 1
        return total
    """
    assert made(Mistake("loop", "h", "s", body=loop))(4, 3) == 4
    assert made(Mistake("value", "h", "s", body="answer = 7"), "### BEGIN SOLUTION\nanswer = 6\n### END SOLUTION",
                "answer") == 7


def test_torch_and_what_an_exercise_names_are_at_hand():
    named = Exercise("sample.named", points=1, minutes=1, names={"height": 5})
    assert made(Mistake("m", "h", "s", body="return F.relu(torch.tensor(-1.0)).item() + height"), CODE.replace(
        "width, height", "width"), exercise=named)(1) == 5


def test_a_given_answer_is_taken_as_it_is_also_none():
    assert made(Mistake("none", "h", "s", answer=None)) is None


@pytest.mark.parametrize("how, said", [
    (dict(), "made in one way"), (dict(swap={"*": "+"}, body="return 1"), "made in one way"),
    (dict(answer=3, body="return 1"), "made in one way"),
    (dict(swap={}), "changes nothing"), (dict(swap={"*": "*"}), "changes nothing"),
    (dict(swap={"height - width": "0"}), "swaps 'height - width', which is not in the solution"),
    (dict(swap={"": "x"}), "swaps '', which is not in the solution")])
def test_a_mistake_that_cannot_be_made_says_why(how, said):
    with pytest.raises(LabError, match=said):
        made(Mistake("m", "h", "s", **how))


def test_an_exercise_that_no_page_poses_or_solves_says_what_to_run():
    lost = Exercise("vision_transformer.lost", points=1, minutes=1)
    for part in ("title", "stub", "solution", "code"):
        with pytest.raises(LabError, match="make notebooks"):
            getattr(lost, part)


def test_what_is_posed_is_read_without_a_solution_or_a_mistake():
    code = ("import sys; from lightvit_lab.exercises import all_exercises, open_exercises\n"
            "for each in all_exercises(): each.prompt, each.stub, each.cases, each.prepare\n"
            "for each in open_exercises(): each.title, each.prompt\n"
            "print([name for name in sys.modules if 'exercises.answers' in name])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_error_of_a_wrong_answer_shows_its_own_line():
    import traceback

    try:
        made(Mistake("raises", "h", "s", body="return width / 0"))(1, 1)
    except ZeroDivisionError as error:
        assert traceback.extract_tb(error.__traceback__)[-1].line == "return width / 0"


def test_answers_are_made_once():
    exercise = find("vision_transformer.count")
    assert answers.of(exercise) is answers.of(exercise)


def test_names_that_cannot_be_compared_are_no_hindrance_and_other_names_give_another_answer():
    def counted(**names):
        return answers.of(Exercise("vision_transformer.count", points=1, minutes=1, names=names))

    assert counted(weights=torch.ones(2)) is not counted(weights=torch.zeros(2))
