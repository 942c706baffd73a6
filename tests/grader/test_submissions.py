"""Files as a class hands them in: whose they are, and which of their cells are run."""

import json

import pytest

from lightvit_grader.submissions import SET_UP, find_submissions, read, student_of

STEMS = ["vision_transformer", "lightvit"]


@pytest.mark.parametrize("name, student", [
    ("ana_vision_transformer", "ana"), ("vision_transformer-ana", "ana"), ("Ana Diaz", "Ana Diaz"),
    ("lightvit", "lightvit"), ("lightvit (1)", "(1)"), ("mylightvit", "mylightvit"), ("ana.lightvit", "ana")])
def test_a_files_name_tells_the_student(name, student):
    assert student_of(name, STEMS) == student


def test_folders_and_files_are_both_found_and_checkpoints_are_not(tmp_path):
    for name in ("ben/deep/lightvit.ipynb", "ben/.ipynb_checkpoints/lightvit.ipynb", "ana_lightvit.ipynb",
                 ".git/a.ipynb", "__MACOSX/a.ipynb", "cleo/notes.txt", "readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = [(each.student, each.path.name) for each in find_submissions(tmp_path, STEMS)]
    assert found == [("ana", "ana_lightvit.ipynb"), ("ben", "lightvit.ipynb"), ("cleo", "cleo")]


def written(tmp_path, cells, **extra):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells, **extra}), encoding="utf-8")
    return read("ana", path)


def test_only_code_to_be_run_here_is_taken_whatever_else_a_cell_lacks(tmp_path):
    found = written(tmp_path, [
        {"cell_type": "markdown", "source": "text"}, {"cell_type": "code", "source": ["a = 1\n", "a"]},
        {"cell_type": "code"}, {"cell_type": "code", "source": SET_UP + " {}\ninstall()"}, 3,
        {"cell_type": "code", "source": "b", "metadata": None},
        {"cell_type": "code", "source": "download()", "metadata": {"tags": ["skip-execution"]}}])
    assert found.cells == ("a = 1\na", "b") and found.problem == ""


def test_the_set_up_cell_of_a_derived_notebook_is_known_by_its_first_line():
    from handed_in import PAGE, notebooks

    set_up = notebooks.derive(PAGE, "main").cells[1]
    assert set_up.source.startswith(SET_UP) and "pip" in set_up.source


def test_the_format_before_is_read_too(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": ["1 + 1"]}]}], "nbformat": 3}))
    assert read("ana", path).cells == ("1 + 1",)


def test_the_last_cell_that_checks_an_exercise_counts(tmp_path):
    check = 'check("lightvit.reach", answer)'
    found = written(tmp_path, [{"cell_type": "code", "source": source} for source in (check, "1", check, "# end")])
    assert found.checked == {"lightvit.reach": 2}


@pytest.mark.parametrize("text, problem", [
    ("", "empty"), ("{", "no notebook"), ("{}", "no list of cells"), ("3", "no list of"),
    ('{"cells": []}', "no code"), ('{"cells": 3, "worksheets": [1]}', "no list of")])
def test_what_is_no_notebook_is_a_problem_in_words(tmp_path, text, problem):
    (tmp_path / "a.ipynb").write_text(text)
    assert problem in read("ana", tmp_path / "a.ipynb").problem


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.ipynb").open("wb") as file:
        file.truncate(65 * 2**20)
    assert "larger than 64 MiB" in read("ana", tmp_path / "a.ipynb").problem
