"""`lightvit-lab exercises`: the whole list with its sums, and a failure where an exercise knows too few mistakes."""

import dataclasses
import subprocess
import sys

from lightvit_lab import exercises
from lightvit_lab.cli import main


def table(capsys):
    """Exit code, and the lines of the list, split into columns."""
    code = main(["exercises"])
    return code, [line.split() for line in capsys.readouterr().out.splitlines() if line]


def test_every_exercise_is_listed_with_page_points_minutes_and_known_wrong_answers(capsys):
    code, lines = table(capsys)
    assert code == 0
    listed = [line for line in lines[1:] if line[0] != "="]
    assert listed == [[one.id, exercises.page_of(one), str(one.points), str(one.minutes), str(len(one.mistakes))]
                      for one in exercises.all_exercises()]
    assert ["vision_transformer.count", "foundations/vision_transformer", "1", "2", "4"] in listed


def test_the_sums_of_a_page_and_of_all_add_up(capsys):
    _, lines = table(capsys)
    listed = [line for line in lines[1:] if line[0] != "="]
    sums = {" ".join(line[3:-3]): list(map(int, [line[1], *line[-3:]])) for line in lines if line[0] == "="}
    for page in {line[1] for line in listed}:
        own = [line for line in listed if line[1] == page]
        assert sums.pop(page) == [len(own), *(sum(int(line[column]) for line in own) for column in (2, 3, 4))]
    assert list(sums) == ["all pages"] and sums["all pages"][0] == len(listed)
    assert sums["all pages"][1:] == [sum(int(line[column]) for line in listed) for column in (2, 3, 4)]


def test_the_list_can_be_of_some_pages_alone(capsys):
    assert main(["exercises", "token_merging", "lightvit"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    listed = [line for line in lines[1:] if line[0] != "="]
    assert {line[1] for line in listed} == {"dynamic/token_merging", "components/lightvit"}
    assert [" ".join(line[3:-3]) for line in lines if line[0] == "="][-1] == "these pages"
    assert lines[-1][1] == str(len(listed))
    assert main(["exercises", "token_merge"]) == 2
    assert 'Did you mean "token_merging"' in capsys.readouterr().err


def test_an_exercise_that_knows_one_mistake_fails_and_is_named(monkeypatch, capsys):
    first, *others = exercises.all_exercises()
    poor = dataclasses.replace(first, answers=exercises.Answers(first.solution, first.mistakes[:1]))
    monkeypatch.setattr(exercises, "all_exercises", lambda: iter([poor, *others]))
    assert main(["exercises"]) == 1
    printed = capsys.readouterr().out
    assert f"{poor.id} knows 1 wrong answer; declare at least 2" in printed
    assert f"lightvit_lab/exercises/answers/{exercises.page_of(poor)}.py" in printed


def test_a_book_without_exercises_fails(monkeypatch):
    monkeypatch.setattr(exercises, "all_exercises", lambda: iter([]))
    assert main(["exercises"]) == 1


def test_the_other_commands_still_import_no_torch():
    code = "import sys; from lightvit_lab.cli import main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
