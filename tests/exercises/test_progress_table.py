"""The table of progress: its rows and sums, as text and as HTML, and where it says it is kept."""

import pytest

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import all_exercises, check, forget_progress, progress, record

CHAPTER = "vision_transformer"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    for name in ("LIGHTVIT_PROGRESS", "LIGHTVIT_BOOK", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(record, "_session", {})
    monkeypatch.setattr(record, "write_failed", False)


def rows(table):
    return {row.exercise_id: row for row in table.rows}


def test_a_chapters_table_has_its_exercises_and_their_state():
    check(f"{CHAPTER}.count", 576)
    check(f"{CHAPTER}.count", 577)
    check(f"{CHAPTER}.budget", 3)
    table = progress(CHAPTER)
    assert [row.exercise_id for row in table.rows] == [one.id for one in all_exercises() if one.id.startswith(CHAPTER)]
    assert rows(table)[f"{CHAPTER}.count"].cells == (f"{CHAPTER}.count", "passed", "1 of 1", "2")
    assert rows(table)[f"{CHAPTER}.budget"].cells == (f"{CHAPTER}.budget", "wrong", "0 of 2", "1")
    assert rows(table)[f"{CHAPTER}.patchify"].status == "not started"
    assert (table.points, table.possible, table.passed) == (1, 18, 1)


def test_without_a_chapter_all_are_shown():
    assert len(progress().rows) == len(list(all_exercises())) > len(progress(CHAPTER).rows)
    assert progress().possible == sum(exercise.points for exercise in all_exercises())


@pytest.mark.parametrize("chapter", ["foundations/vision_transformer", "chapters/foundations/vision_transformer"])
def test_a_chapter_may_be_given_with_its_part(chapter):
    assert progress(chapter) == progress(CHAPTER)


def test_an_unknown_chapter_suggests_the_closest():
    with pytest.raises(LabError, match='Did you mean "vision_transformer"'):
        progress("vision_transformers")


def test_the_text_is_aligned_and_ends_in_sums_and_the_place():
    check(f"{CHAPTER}.count", 577)
    lines = repr(progress(CHAPTER)).splitlines()
    assert lines[0].split() == ["exercise", "status", "points", "attempts"]
    assert len({line.index(status) for line, status in zip(lines[1:3], ("passed", "not started"))}) == 1
    assert lines[-2].split() == ["all", "1", "of", "7", "passed", "1", "of", "18", "1"]
    assert str(record.path()) in lines[-1] and "LIGHTVIT_PROGRESS=0" in lines[-1]


def test_the_html_is_a_table_with_headers_titles_and_words_for_states():
    check(f"{CHAPTER}.count", 577)
    html = progress(CHAPTER)._repr_html_()
    assert html.count('scope="row"') == 8 and html.count('scope="col"') == 4
    assert "passed</td>" in html and "not started</td>" in html and 'aria-hidden="true"' in html
    assert "How many tokens?</div>" in html
    assert "577" not in html and "577" not in repr(progress(CHAPTER))


@pytest.mark.parametrize("setting, expected", [("0", "LIGHTVIT_PROGRESS=0"), ("", "Kept in")])
def test_the_table_says_whether_it_is_kept(monkeypatch, setting, expected):
    monkeypatch.setenv("LIGHTVIT_PROGRESS", setting)
    assert expected in progress(CHAPTER).storage_note


def test_a_file_that_cannot_be_written_is_named_with_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "taken"))
    check(f"{CHAPTER}.count", 577)
    assert "cannot be written" in progress(CHAPTER).storage_note and "LIGHTVIT_CACHE" in progress(CHAPTER).storage_note
    assert progress(CHAPTER).passed == 1


def test_forgetting_begins_anew():
    check(f"{CHAPTER}.count", 577)
    forget_progress()
    assert progress(CHAPTER).passed == 0 and not record.path().exists()
