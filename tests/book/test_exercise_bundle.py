"""What the library knows of the exercises is what the pages say."""

import exercise_bundle
import notebooks
import pytest

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises, find, open_exercises

PAGE = """---
kernelspec:
  display_name: Python 3
  name: python3
---
# A page

:::::{exercise} Twice
:label: page.twice

Return *twice* $x$.
:::::

```{code-cell} ipython3
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

check("page.twice", double)
```

Words.

:::{open-question} Why twice?
:label: page.why

Once is **not** enough.

Is it?
:::
"""


@pytest.fixture
def page(tmp_path):
    (tmp_path / "pyproject.toml").write_text((notebooks.ROOT / "pyproject.toml").read_text())
    path = tmp_path / "chapters" / "part" / "page.md"
    path.parent.mkdir(parents=True)
    path.write_text(PAGE)
    return path


def test_title_prompt_stub_and_solution_are_those_of_the_page(page, tmp_path):
    posed, solved = exercise_bundle.bundle(page, tmp_path)
    assert posed == {
        "page.twice": {"title": "Twice", "prompt": "Return *twice* $x$.",
                       "stub": "def double(x):\n    raise NotImplementedError\n\ncheck(\"page.twice\", double)"},
        "page.why": {"title": "Why twice?", "prompt": "Once is **not** enough.\n\nIs it?"}}
    code = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    assert solved == {"page.twice": {"code": code, "answer": "double"}}


def test_a_changed_page_is_out_of_step_until_it_is_written(page, tmp_path, capsys):
    assert exercise_bundle.check(tmp_path) == 1 and "exercises/part/page.json" in capsys.readouterr().out
    exercise_bundle.write(tmp_path)
    assert exercise_bundle.check(tmp_path) == 0
    page.write_text(PAGE.replace("2 * x", "x + x"))
    assert exercise_bundle.check(tmp_path) == 1
    assert capsys.readouterr().out.startswith("lightvit_lab/exercises/answers/part/page.json is not what its page says")


def test_a_cell_that_checks_two_exercises_is_refused(page, tmp_path):
    page.write_text(PAGE.replace('check("page.twice", double)', 'check("page.twice", double)\ncheck("page.more", double)'))
    with pytest.raises(LabError, match="checks .*page.more"):
        exercise_bundle.bundle(page, tmp_path)


def test_the_box_of_one_solution_is_not_that_of_the_next(page, tmp_path):
    second = PAGE[PAGE.index("```{code-cell}"):PAGE.index("Words.")].replace("page.twice", "page.again")
    page.write_text(PAGE.replace("Words.", second))
    with pytest.raises(LabError, match="page.md: no exercise box stands above the solution of page.again"):
        exercise_bundle.bundle(page, tmp_path)


def test_what_a_deleted_exercise_left_is_named_and_then_deleted(page, tmp_path, capsys):
    exercise_bundle.write(tmp_path)
    folder = tmp_path / "lightvit_lab" / "exercises"
    old = [folder / "part" / "gone.json", folder / "answers" / "part" / "gone.json", folder / "answers" / "part" / "page.json"]
    for path in old[:2]:
        path.write_text("{}\n")
    page.write_text(PAGE[:PAGE.index(":::::{exercise}")] + PAGE[PAGE.index("Words."):] + "\n```{code-cell} ipython3\n1\n```\n")
    assert exercise_bundle.check(tmp_path) == 1
    said = capsys.readouterr().out
    assert all(f"{path.relative_to(tmp_path)} is not what its page says" in said for path in old)
    exercise_bundle.write(tmp_path)
    assert not any(path.exists() for path in old) and exercise_bundle.check(tmp_path) == 0
    assert [path.name for path in folder.rglob("*.json")] == ["page.json"]


@pytest.mark.parametrize("call", [
    'check("page.twice",\n      double)', 'check(\n    "page.twice",\n    double,\n)', 'check("page.twice", answer=double)',
    'result = check(exercise_id="page.twice", answer=double)', "exercises.check('page.twice', double)   # mine"])
def test_a_call_of_check_may_run_over_several_lines(page, tmp_path, call):
    page.write_text(PAGE.replace('check("page.twice", double)', call))
    posed, solved = exercise_bundle.bundle(page, tmp_path)
    code = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    assert solved == {"page.twice": {"code": code, "answer": "double"}}
    assert posed["page.twice"]["stub"].endswith(call)


@pytest.mark.parametrize("call", [
    "", 'x = 1; check("page.twice", double)', 'for _ in range(2):\n    check("page.twice", double)', 'check("page.twice")',
    "check(name, double)", 'print(check("page.twice", double))', 'check("page.twice", double'])
def test_a_solution_cell_that_checks_in_another_way_is_refused_with_its_page(page, tmp_path, call):
    page.write_text(PAGE.replace('check("page.twice", double)', call))
    with pytest.raises(LabError, match="page.md: a solution cell"):
        exercise_bundle.bundle(page, tmp_path)


@pytest.mark.parametrize("title", ["*Why* `x`?", "Why $x$ and **y** (again)?", "Why not [this](#page.twice)?"])
def test_an_open_question_with_markup_in_its_title_is_found(page, tmp_path, title):
    page.write_text(PAGE.replace("Why twice?", title))
    assert exercise_bundle.bundle(page, tmp_path)[0]["page.why"]["prompt"] == "Once is **not** enough.\n\nIs it?"


def test_two_open_questions_of_one_title_keep_their_own_prompts(page, tmp_path):
    page.write_text(PAGE + "\n:::{open-question} Why twice?\n:label: page.other\n\nAnother.\n:::\n")
    posed, _ = exercise_bundle.bundle(page, tmp_path)
    assert posed["page.other"]["prompt"] == "Another." and posed["page.why"]["prompt"].startswith("Once")


@pytest.mark.parametrize("box", [
    ":::{open-question} Why twice?\n:class: tip\n:label: page.why\n", ":::{open-question} Why twice?\n",
    ":::{open-question}\n:label: page.why\n", ":::{open-question} Why twice?\n---\nlabel: page.why\n---\n"])
def test_an_open_question_that_would_have_no_cell_for_its_answer_is_refused(page, tmp_path, box):
    page.write_text(PAGE.replace(":::{open-question} Why twice?\n:label: page.why\n", box))
    with pytest.raises(LabError, match="open question|open-question"):
        exercise_bundle.bundle(page, tmp_path)


def test_the_books_pages_are_in_step_and_pose_all_that_is_declared():
    assert exercise_bundle.check() == 0, "run `make notebooks`"
    posed = {name for page in notebooks.pages() for name in exercise_bundle.bundle(page)[0]}
    assert posed == {each.id for each in (*all_exercises(), *open_exercises())}


def test_the_answer_to_an_open_question_has_a_cell_of_its_own_below_it(page):
    cells = notebooks.derive(page, "main").cells
    (place,) = [number for number, cell in enumerate(cells) if "lightvit_lab" in cell.metadata]
    assert cells[place].metadata["lightvit_lab"] == {"open_question": "page.why"}
    assert "**Open question 2: Why twice?**" in cells[place - 1].source and "page.why" not in cells[place - 1].source
