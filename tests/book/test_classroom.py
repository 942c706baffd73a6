"""What `make classroom` writes: no solution for students, all of them for teachers, and a course for nbgrader."""

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import classroom
import nbformat
import nbgrader_course
import notebooks
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from stubs import BEGIN

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import OpenExercise, all_exercises

PAGE = notebooks.ROOT / "chapters" / "foundations" / "vision_transformer.md"
EXERCISES = {exercise.id: exercise for exercise in all_exercises()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("classroom")
    (out / "student").mkdir()
    (out / "student" / "left_over.ipynb").write_text("{}")
    classroom.write(out, "0123456789abcdef", with_nbgrader=True, html=out / "no book")
    return out


def code_of(path):
    return "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


def test_there_is_a_notebook_of_each_kind_for_each_page_and_nothing_left_over(written):
    stems = {page.stem for page in notebooks.pages()}
    for kind in ("student", "instructor"):
        assert {path.stem for path in (written / kind).iterdir()} == stems
    assert {path.stem for path in (written / "nbgrader" / "source").iterdir()} == stems
    assert {path.name for path in (written / "lecture").iterdir()} == {f"{stem}.html" for stem in stems}


def test_students_get_stubs_and_teachers_solutions(written):
    for path in (written / "student").iterdir():
        student, teacher = code_of(path), code_of(written / "instructor" / path.name)
        assert BEGIN not in student and BEGIN in teacher
        assert "raise NotImplementedError" in student and "raise NotImplementedError" not in teacher
    solution = "images.reshape(batch, channels, rows, patch_size, columns, patch_size)"
    name = "vision_transformer.ipynb"
    assert solution in code_of(written / "instructor" / name) and solution not in code_of(written / "student" / name)


def test_the_answer_key_has_each_exercise_with_prompt_solution_points_minutes_and_every_hint(written):
    key = (written / "answer_key.md").read_text(encoding="utf-8")
    for exercise in EXERCISES.values():
        (part,) = [part for part in key.split("\n### ") if f"`{exercise.id}`, {exercise.points} point" in part]
        assert f"{exercise.minutes} minutes" in part and "```python\n" in part and "check(" not in part
        prompt = part.split("minutes\n\n", 1)[1].split("\n\n```python")[0]
        assert len(prompt.split()) > 5
        for mistake in exercise.mistakes:
            assert f"**{mistake.name}**" in part and mistake.hint in part and mistake.stronger in part
    assert "ViT-Base with patches of 16 pixels reads pictures of 384 x 384" in key and "(384 // 16) ** 2 + 1" in key
    assert key.index("vision_transformer.count") < key.index("lightvit.reach")          # as the book has them


def test_the_table_of_points_has_one_row_for_each_declared_exercise(written):
    with (written / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["exercise"] for row in rows) == sorted(EXERCISES)
    for row in rows:
        exercise = EXERCISES[row["exercise"]]
        assert (int(row["points"]), int(row["minutes"])) == (exercise.points, exercise.minutes)
        assert int(row["known_mistakes"]) == len(exercise.mistakes) >= 2


def test_the_answer_key_has_the_rubric_of_each_open_question_with_points_that_add_up(written):
    key = (written / "answer_key.md").read_text(encoding="utf-8")
    for question in classroom.open_exercises():
        (part,) = [part for part in key.split("\n### ") if f"`{question.id}`" in part]
        lines = part.partition("Points, for an answer that\n\n")[2].partition("\n\n")[0].splitlines()
        assert len(lines) == len(question.rubric) >= 2
        assert sum(int(re.match(r"- (\d+): ", line)[1]) for line in lines) == question.points


def test_the_readme_names_every_file_of_the_folder_and_a_reader_for_each(written):
    text = (written / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (students|teachers) \| \S.+ \|$", text, re.MULTILINE)
    named = {name.partition("/")[0] for name, _ in rows}
    assert named | {"README.md"} == {path.name for path in written.iterdir()} and "{" not in text
    assert [name for name, who in rows if who == "students"] == ["student/<page>.ipynb"]
    assert "lightvit-lab grade" in text and "by hand" in text and "`0123456789ab`" in text


def test_an_exercise_that_no_page_poses_or_nobody_declares_is_named(monkeypatch, tmp_path):
    everything = list(all_exercises())
    monkeypatch.setattr(classroom, "all_exercises", lambda: everything[:-1])
    (posing,) = (page for page in notebooks.pages() if page.stem == everything[-1].id.partition(".")[0])
    monkeypatch.setattr(classroom, "in_reading_order", lambda root: [PAGE, posing])
    with pytest.raises(LabError, match=everything[-1].id):
        classroom.write(tmp_path, "main")
    monkeypatch.setattr(classroom, "all_exercises", lambda: everything)
    monkeypatch.setattr(classroom, "in_reading_order", lambda root: [PAGE])
    with pytest.raises(LabError, match="on no page: .*lightvit.reach"):
        classroom.write(tmp_path, "main")


def test_an_open_question_that_no_page_poses_or_nobody_declares_is_named(monkeypatch, tmp_path):
    (known,) = (each for each in classroom.open_exercises() if each.id.startswith("vision_transformer."))
    monkeypatch.setattr(classroom, "open_exercises", lambda: [])
    monkeypatch.setattr(classroom, "in_reading_order", lambda root: [PAGE])
    with pytest.raises(LabError, match=f"poses '{known.id}'"):
        classroom.write(tmp_path, "main")
    more = OpenExercise("vision_transformer.lost", points=1, minutes=1)
    monkeypatch.setattr(classroom, "open_exercises", lambda: [known, more])
    with pytest.raises(LabError, match="on no page: .*vision_transformer.lost"):
        classroom.write(tmp_path, "main")


def test_the_locked_test_has_the_whole_check_and_the_answer_that_is_given_to_it():
    source = """### BEGIN SOLUTION
answer = 6
### END SOLUTION

check("page.six",
      answer + 1)"""
    answer, test = nbgrader_course.exercise_cells(new_code_cell(source), {"page.six": 2})
    assert answer.source == "answer = ...\n### BEGIN SOLUTION\nanswer = 6\n### END SOLUTION"
    assert test.source.startswith('check("page.six",\n      answer + 1)\n### BEGIN HIDDEN TESTS\n')
    assert "require_passed('page.six', answer + 1)" in test.source and test.metadata["nbgrader"]["points"] == 2


def test_the_command_says_where_it_wrote_and_what_is_not_for_students(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(classroom, "in_reading_order", lambda root: [PAGE])          # a book of one page
    for kind in ("all_exercises", "open_exercises"):
        declared = [each for each in getattr(classroom, kind)() if each.id.startswith("vision_transformer.")]
        monkeypatch.setattr(classroom, kind, lambda declared=declared: declared)
    assert classroom.main(["--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "vision_transformer: 7 exercises, 18 points" in said and "only student/ is for students" in said
    assert not (tmp_path / "nbgrader").exists()


def small_course():
    """The exercises of one page without its experiments, tagged for nbgrader."""
    solved = notebooks.derive(PAGE, "main", solutions=True)
    cells = [new_markdown_cell("# A page"), new_code_cell("import torch\nfrom lightvit_lab.exercises import check"),
             *(cell for cell in solved.cells if BEGIN in cell.source and "without(" not in cell.source)]
    points = {name: exercise.points for name, exercise in EXERCISES.items()}
    return nbgrader_course.source_notebook(notebooks.assemble(cells, "main"), points)


def test_answers_and_tests_are_tagged_with_unique_names_and_points():
    tags = [cell.metadata["nbgrader"] for cell in small_course().cells if "nbgrader" in cell.metadata]
    graded = [tag for tag in tags if tag["grade"]]
    assert len({tag["grade_id"] for tag in tags}) == len(tags) == 2 * len(graded)
    assert sum(tag["points"] for tag in graded) == 15 and all(tag["locked"] != tag["solution"] for tag in tags)


def test_emptied_as_nbgrader_does_it_an_answer_is_a_stub_and_left_alone_it_is_the_solution():
    for cell in small_course().cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            comment = "# Write your answer here"
            emptied = nbgrader_course.ANSWER.sub(lambda block: block["indent"] + comment, cell.source)
            scope = {}
            exec(emptied, scope)
            assert scope.get("answer", ...) is ...
            exec("import torch\n" + cell.source, scope)
            assert scope.get("answer") is not ...


@pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None,
                    reason='needs nbgrader: pip install -c constraints.txt -e ".[classroom]"')
def test_nbgrader_makes_the_assignment_and_grades_it_from_end_to_end(tmp_path):
    source = notebooks.text_of(small_course())
    classroom.save(tmp_path / "source" / "page" / "page.ipynb", source)
    classroom.save(tmp_path / "nbgrader_config.py", nbgrader_course.CONFIG)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                   "PYTHONPATH": f"{notebooks.ROOT}:{os.environ['PYTHONPATH']}"}

    def nbgrader(*arguments):
        done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", "page")
    released = (tmp_path / "release" / "page" / "page.ipynb").read_text(encoding="utf-8")
    assert "require_passed" not in released and BEGIN not in released and "raise NotImplementedError" in released
    half = released.replace("answer = ...\\n\",\n    \"# Write your answer here", "answer = 577")
    assert half != released
    for student, text in {"ana": source, "ben": released, "cleo": half}.items():
        classroom.save(tmp_path / "submitted" / student / "page" / "page.ipynb", text)
    nbgrader("autograde", "page")
    nbgrader("export")
    with (tmp_path / "grades.csv").open(newline="") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"ana": 15, "ben": 0, "cleo": 1}
