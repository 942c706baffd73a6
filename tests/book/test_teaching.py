"""The page for teachers: its plan, its lecture cuts and its tables against the pages and the command that exist."""

import re
from pathlib import Path

import classroom
import lab_points
import notebooks
import pytest
import yaml

from lightvit_grader.grading import ANSWERS, STATUSES
from lightvit_grader.hidden import DRAWS
from lightvit_grader.session import CALL_SECONDS, Limits
from lightvit_lab.cli import _parser
from lightvit_lab.exercises import all_exercises

ROOT = notebooks.ROOT
TEXT = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
PARTS = yaml.safe_load((ROOT / "book" / "_ext" / "parts.yml").read_text(encoding="utf-8"))
STEMS = {page["stem"]: part["part"] for part in PARTS for page in part["pages"]}
TITLES = {page["stem"]: page["title"] for part in PARTS for page in part["pages"]}
PLAN = [line for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)]


def test_the_plan_has_twelve_weeks_and_names_every_page_of_the_book_once():
    assert [int(line.split("|")[1]) for line in PLAN] == list(range(1, 13))
    planned = re.findall(r"\*([^*]+)\*", "\n".join(PLAN))
    written = [TITLES[stem] for stem in re.findall(r"/(\w+)`", "\n".join(PLAN))]
    assert sorted(planned + written) == sorted(TITLES.values())


@pytest.mark.parametrize("stem", STEMS)
def test_a_page_of_the_plan_is_linked_where_it_exists_and_marked_as_planned_where_not(stem):
    exists = (ROOT / "chapters" / STEMS[stem] / f"{stem}.md").is_file()
    assert (f"{{doc}}`/chapters/{STEMS[stem]}/{stem}`" in "\n".join(PLAN)) == exists
    assert (f"*{TITLES[stem]}*" in "\n".join(PLAN)) != exists


def test_the_lecture_cuts_name_sections_and_exercises_as_the_pages_do():
    cuts = TEXT.partition("## Lectures of 50")[2].partition("\n## ")[0]
    parts = re.split(r"^### (.+)$", cuts, flags=re.MULTILINE)[1:]
    found = {title: text for title, text in zip(parts[::2], parts[1::2])}
    title_of = re.compile(r"^# (.+)$", re.MULTILINE)
    pages = {title_of.search(page.read_text(encoding="utf-8"))[1]: page for page in notebooks.pages()}
    assert set(found) == set(pages)
    for title, text in found.items():
        page = pages[title].read_text(encoding="utf-8")
        sections = re.findall(r'"([^"]+)"', text)
        exercises = re.findall(r"\*([^*\n]+)\*", text.replace("\n* ", "\n- "))
        assert len(sections) >= 5 and len(exercises) >= 1
        assert [name for name in sections if f"\n## {name}\n" not in page] == []
        assert [name for name in exercises if f"{{exercise}} {name}\n" not in page] == []
        assert text.count("50 minutes:") >= 2 and "90 minutes:" in text


def test_the_table_of_points_adds_up_and_leaves_no_exercise_out():
    *pages, total = lab_points.point_rows(ROOT)
    exercises = list(all_exercises())
    assert total == ("**all**", str(len(exercises)), str(sum(each.points for each in exercises)),
                     str(sum(each.minutes for each in exercises)), str(sum(len(each.mistakes) for each in exercises)))
    for column in range(1, 5):
        assert sum(int(row[column]) for row in pages) == int(total[column])
    assert pages[0] == ("{doc}`/chapters/foundations/vision_transformer`", "6", "15", "54", "24")


def test_statuses_limits_and_options_are_those_of_the_command():
    table = TEXT.partition("| status |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| ([a-z ]+?) \|", table, re.MULTILINE)) == sorted(STATUSES)
    limits = Limits()
    assert f"--seconds {limits.seconds:g}" in TEXT and f"--memory-mib {limits.memory_mib}" in TEXT
    assert f"{CALL_SECONDS:g} seconds" in TEXT and (DRAWS, ANSWERS) == (5, 20) and "on five draws" in TEXT
    for call in re.findall(r"^lightvit-lab (grade .+)$", TEXT, re.MULTILINE):
        chosen = _parser().parse_args(call.split())
        assert chosen.submissions == Path("submissions")
        assert (chosen.seconds, chosen.memory_mib) == (limits.seconds, limits.memory_mib)
    assert {"--seed", "--pages", "--jobs"} <= set(re.findall(r"--\w+", TEXT))


def test_the_files_that_make_classroom_is_said_to_write_are_those_it_writes(tmp_path):
    classroom.write(tmp_path, "main", with_nbgrader=True)
    table = TEXT.partition("| file |")[2].partition("\n\n")[0]
    for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE):
        assert list(tmp_path.glob(name.replace("<page>", "lightvit"))), name
    assert (tmp_path / "nbgrader" / "nbgrader_config.py").is_file()
