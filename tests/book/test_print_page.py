"""The whole book for paper, without a browser: which sheets a page gets, what stands above them, what is set tighter."""

import re

import pdf
import print_page
import pytest
from bs4 import BeautifulSoup

PROJECT = {"title": 'A "book"', "description": "d", "author": "a", "version": "1", "repository": "r", "date": "today"}
PAGES = {"book/intro": "A book", "book/how": "How to", "book/notation": "Notation", "chapters/a/one": "1. One",
         "chapters/a/two": "2. Two <3", "book/glossary": "Glossary", "book/guesses": "Your guesses"}
TOC = ("format: jb-book\nroot: book/intro\nparts:\n- caption: Before\n  chapters: [{file: book/how}, {file: book/notation}]\n"
       "- caption: Work\n  numbered: 1\n  chapters: [{file: chapters/a/one}, {file: chapters/a/two}]\n"
       "- caption: Reference\n  chapters: [{file: book/glossary}, {file: book/guesses}]\n")


@pytest.fixture
def printed(tmp_path):
    """The pages of a small book, printed with chapter two set tighter, as one parsed document."""
    (tmp_path / "_toc.yml").write_text(TOC)
    for name, title in PAGES.items():
        text = '<div id="lab-guesses"></div>' if "guesses" in name else '<a href="../book/guesses.html">guesses</a>'
        (tmp_path / f"{name}.html").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.html").write_text(
            f'<html><head></head><body><article class="bd-article"><h1>{title.replace("<", "&lt;")}</h1>{text}</article></body></html>')
    page = print_page.whole_book(tmp_path, tmp_path / "_toc.yml", PROJECT, {}, ["chapters-a-two"])
    return BeautifulSoup(page, "html.parser")


def test_chapters_and_parts_begin_on_a_new_sheet_and_other_pages_run_on(printed):
    kinds = {one["id"]: set(one["class"]) for one in printed.select(".lab-chapter")}
    assert [name for name, kind in kinds.items() if "lab-runs-on" in kind] == ["book-notation"]
    assert [name for name, kind in kinds.items() if "lab-tight" in kind] == ["chapters-a-two"]


def test_above_a_sheet_stand_the_book_and_the_chapter_and_above_other_pages_their_part(printed):
    heads = dict(re.findall(r'@page ([\w-]+) \{ .*? @top-right \{ content: "(.*?)" \} \}', printed.style.text))
    said = {one["id"]: heads[one["style"].removeprefix("page:")] for one in printed.select(".lab-chapter")}
    assert said == {"book-intro": "Introduction", "book-how": "Before", "book-notation": "Before", "chapters-a-one": "1. One",
                    "chapters-a-two": r"2. Two \3c 3", "book-glossary": "Reference"}
    assert heads[printed.select_one(".lab-contents")["style"].removeprefix("page:")] == "Contents"
    assert r'@top-left { content: "A \"book\"" }' in printed.style.text


def test_a_page_that_lives_in_the_browser_alone_is_not_printed_and_its_links_are_words(printed):
    assert "Your guesses" not in printed.text and printed.text.count("guesses") == len(PAGES) - 1
    assert not printed.select('a[href*="guesses"]')


def test_a_chapter_is_set_tighter_where_its_other_sheets_can_take_what_is_on_the_last():
    numbers = {"book-intro": 3, "chapters-a-one": 5, "chapters-a-two": 26, "chapters-a-three": 29, "book-glossary": 40}
    shares = [1.0] * 45
    shares[24], shares[27], shares[38], shares[3] = 0.4, 0.2, 0.25, 0.1   # last sheets: of 21, 3 and 11, and of the introduction
    assert pdf.short_ends(numbers, shares) == ["chapters-a-one", "chapters-a-three"]
    numbers |= {"chapters-a-three": 28, "book-glossary": 38}
    assert pdf.without_ends(numbers, ["chapters-a-one", "chapters-a-three"]) == {
        "book-intro": 3, "chapters-a-one": 5, "chapters-a-two": 25, "chapters-a-three": 27, "book-glossary": 36}
    assert pdf.short_ends({"chapters-a-one": 1}, [1.0] * 20 + [0.45]) == ["chapters-a-one"]
    assert pdf.short_ends({"chapters-a-one": 1}, [1.0] * 20 + [0.55]) == []


def test_how_full_a_sheet_is_counts_from_the_margin_to_the_last_ink_on_it(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pypdfium2")
    sheets = []
    for lines in ((), (17 + 131 - 1,), (60, 17 + 262 - 1), (5, 290)):         # millimetres from the top
        sheet = image.new("L", (210 * 4, 297 * 4), 255)
        for line in lines:
            sheet.paste(0, (200, 4 * line, 400, 4 * line + 4))
        sheets.append(sheet)
    sheets[0].save(tmp_path / "sheets.pdf", save_all=True, append_images=sheets[1:], resolution=4 * 25.4)
    assert pdf.filled(tmp_path / "sheets.pdf") == pytest.approx([0, 0.5, 1, 0], abs=0.01)
