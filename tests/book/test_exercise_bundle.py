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


def test_the_books_pages_are_in_step_and_pose_all_that_is_declared():
    assert exercise_bundle.check() == 0, "run `make notebooks`"
    posed = {name for page in notebooks.pages() for name in exercise_bundle.bundle(page)[0]}
    assert posed == {each.id for each in (*all_exercises(), *open_exercises())}


def test_the_answer_to_an_open_question_has_a_cell_of_its_own_below_it(page):
    cells = notebooks.derive(page, "main").cells
    (place,) = [number for number, cell in enumerate(cells) if "lightvit_lab" in cell.metadata]
    assert cells[place].metadata["lightvit_lab"] == {"open_question": "page.why"}
    assert "**Open question 2: Why twice?**" in cells[place - 1].source and "page.why" not in cells[place - 1].source
