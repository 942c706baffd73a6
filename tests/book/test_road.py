"""The road through a page: read once, for page and notebook; every section of a chapter says what it is."""

import re

import notebooks
import pytest
import road

from lightvit_lab.errors import LabError

PAGES = notebooks.pages()
OFF_THE_ROAD = {"What do you remember?", "Summary"}


def test_kind_minutes_and_words():
    assert road.read("core 6", "", "here").words == "Core, 6 minutes"
    assert road.read(" further  1 ", "What it shows.", "here") == ("further", 1)
    assert road.read("further 1", "What it shows.", "here").words == "Further, 1 minute"


@pytest.mark.parametrize(("argument", "sentence", "said"), [
    ("core", "", "give `core` or `further`, and minutes"), ("core 0", "", "minutes"), ("later 3", "x", "`core` or `further`"),
    ("further 3", "", "needs one"), ("core 3", "A sentence.", "a core section has none")])
def test_what_cannot_be_meant_is_refused_with_its_place(argument, sentence, said):
    with pytest.raises(LabError, match="page.md:7: road .*" + re.escape(said)):
        road.read(argument, sentence, "page.md:7")


def test_minutes_of_a_page_are_summed_by_kind():
    page = "## One\n\n:::{road} core 6\n:::\n\n## Two\n\n:::{road} further 4\nMore.\n:::\n\n## Three\n\n:::{road} core 5\n:::\n\n## Summary\n"
    assert road.minutes(page) == (11, 4)
    assert list(road.stretches(page)) == ["One", "Two", "Three"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_section_of_a_page_is_on_the_road_and_the_head_says_its_minutes(page):
    text = page.read_text(encoding="utf-8")
    titles = set(re.findall(r"^## (.+?) *$", text, re.MULTILINE))
    assert set(road.stretches(text)) == titles - OFF_THE_ROAD
    core, further = road.minutes(text)
    assert core > 0 and f"{core} minutes to read the core, {further} more for the rest" in text
