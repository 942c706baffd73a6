"""The page for teachers: its plan, its lecture cuts and its tables against the pages and the command that exist."""

import re
from pathlib import Path

import classroom
import lab_lessons
import lab_points
import lessons
import notebooks
import pytest

from lightvit_grader.command import _parser
from lightvit_grader.grading import ANSWERS, BY_HAND, STATUSES
from lightvit_grader.hidden import DRAWS
from lightvit_grader.session import CALL_SECONDS, Limits
from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises

ROOT = notebooks.ROOT
TEXT = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
WEEKS = {"foundations/vision_transformer": [1, 2], "dynamic/early_exit": [8], "practice/reading_attention": [11]}
PLAN = lab_lessons.plan_rows(lessons.lessons(ROOT))
each_page = pytest.mark.parametrize("page", lessons.in_reading_order(ROOT), ids=lambda page: page.stem)


def test_the_plan_has_twelve_weeks_and_names_every_page_of_the_book():
    assert [int(week) for week, *_ in PLAN] == list(range(1, 13)) and "```{teaching-plan}" in TEXT
    named = " ".join(pages for _, pages, _ in PLAN)
    for part in lessons.parts():
        folder = ROOT / "chapters" / part["part"]
        stems = {page.stem for page in folder.glob("*.md")}
        assert all(f"{{doc}}`/chapters/{part['part']}/{stem}`" in named for stem in stems)
        planned = [page for page in part["planned"] if page["stem"] not in stems]
        assert all(f"*{page['title']}*" in named for page in planned)


def test_a_page_stands_in_the_weeks_that_it_names_with_their_questions():
    for page, weeks in WEEKS.items():
        assert [int(week) for week, pages, _ in PLAN if f"/{page}`" in pages] == weeks
    assert PLAN[1][2] == "What does it cost, and how do we notice that it is broken?"


def test_what_is_planned_is_marked_and_has_no_link_and_a_written_page_takes_its_place(tmp_path):
    rows = {int(week): pages for week, pages, _ in PLAN}
    assert "*Deployment*" in rows[12] and "deployment`" not in rows[12]
    page = tmp_path / "chapters/practice/deployment.md"
    page.parent.mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("- file: chapters/practice/deployment\n- file: chapters/practice/gone\n")
    page.write_text("---\nlesson:\n  weeks:\n    3: Where to?\n---\n\n# Out of the notebook\n")
    found = lab_lessons.plan_rows(lessons.lessons(tmp_path))
    assert found[0] == ("3", "{doc}`/chapters/practice/deployment`", "Where to?")
    assert "Deployment" not in dict((week, pages) for week, pages, _ in found)["12"]
    assert lessons.counts(tmp_path)["pages"] == 1


@pytest.mark.parametrize("front", ["", "---\nkernelspec: {}\n---\n", "---\nlesson: {weeks: 8}\n---\n",
                                   "---\nlesson: {weeks: {8: 1}}\n---\n", "---\nlesson: {weeks: {}}\n---\n"])
def test_a_page_that_names_no_week_is_refused_with_the_form_to_write(tmp_path, front):
    (tmp_path / "page.md").write_text(f"{front}# Title\n")
    with pytest.raises(LabError, match="in which week .* write\nlesson:"):
        lessons.read(tmp_path / "page.md")


def test_pages_and_exercises_are_counted_as_they_lie_there():
    stems = {path.stem for path in (ROOT / "chapters").glob("*/*.md")}
    boxes = [text.count("{exercise} ") for text in map(Path.read_text, (ROOT / "chapters").glob("*/*.md"))]
    counts = lessons.counts(ROOT)
    assert (counts["pages"], counts["exercises"]) == (len(stems), sum(boxes))
    assert counts["all pages"] >= 23          # those of the design


@each_page
def test_the_lecture_cuts_name_sections_and_exercises_as_the_page_does(page):
    cuts, text = lessons.read(page).lectures, page.read_text(encoding="utf-8")
    sections = re.findall(r'"([^"]+)"', cuts)
    exercises = re.findall(r"\*([^*\n]+)\*", re.sub(r"^\* ", "- ", cuts, flags=re.MULTILINE))
    assert len(sections) >= 5 and len(exercises) >= 1
    assert [name for name in sections if f"\n## {name}\n" not in text] == []
    assert [name for name in exercises if f"{{exercise}} {name}\n" not in text] == []
    assert cuts.count("50 minutes:") >= 2 and "90 minutes:" in cuts


def test_the_table_of_points_adds_up_and_leaves_no_exercise_out():
    *pages, total = lab_points.point_rows(ROOT)
    exercises = list(all_exercises())
    assert total == ("**all**", str(len(exercises)), str(sum(each.points for each in exercises)),
                     str(sum(each.minutes for each in exercises)), str(sum(len(each.mistakes) for each in exercises)))
    for column in range(1, 5):
        assert sum(int(row[column]) for row in pages) == int(total[column])
    assert pages[0] == ("{doc}`/chapters/foundations/vision_transformer`", "7", "18", "66", "33")


def test_statuses_limits_and_options_are_those_of_the_command():
    table = TEXT.partition("| status |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| ([a-z ]+?) \|", table, re.MULTILINE)) == sorted([*STATUSES, BY_HAND])
    limits = Limits()
    assert f"--seconds {limits.seconds:g}" in TEXT and f"--memory-mib {limits.memory_mib}" in TEXT
    assert f"{CALL_SECONDS:g} seconds" in TEXT and (DRAWS, ANSWERS) == (5, 20) and "on five draws" in TEXT
    for call in re.findall(r"^lightvit-lab grade (.+)$", TEXT, re.MULTILINE):
        chosen = _parser().parse_args(call.split())
        assert chosen.submissions == Path("submissions")
        assert (chosen.seconds, chosen.memory_mib) == (limits.seconds, limits.memory_mib)
    assert {"--seed", "--pages", "--jobs"} <= set(re.findall(r"--\w+", TEXT))


def test_the_files_that_make_classroom_is_said_to_write_are_those_it_writes(tmp_path):
    classroom.write(tmp_path, "main", with_nbgrader=True, html=tmp_path / "no book")
    table = TEXT.partition("| file |")[2].partition("\n\n")[0]
    for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE):
        assert list(tmp_path.glob(name.replace("<page>", "lightvit"))), name
    said = {name.partition("/")[0] for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)}
    assert said | {"nbgrader"} == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "nbgrader" / "nbgrader_config.py").is_file()


def test_a_word_to_find_leads_to_one_section_of_the_book():
    found = [word.lower() for page in lessons.in_reading_order(ROOT) for words in lessons.words_to_find(page).values() for word in words]
    assert len(found) > 50 and sorted(set(found)) == sorted(found)


@pytest.mark.parametrize("find", ["[word]", "{section: word}", "{section: [1]}"])
def test_words_to_find_of_another_form_are_refused(find, tmp_path):
    (tmp_path / "page.md").write_text(f"---\nlesson:\n  find: {find}\n---\n\n# Page\n")
    with pytest.raises(LabError, match="anchor-of-a-section: "):
        lessons.words_to_find(tmp_path / "page.md")
