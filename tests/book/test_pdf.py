"""The book on paper: two small pages and one with figures, printed as `make pdf` prints all of them, and looked at."""

import re

import browser
import pdf
import print_page
import pytest
from bs4 import BeautifulSoup

from lightvit_lab.errors import LabError

browser.skip_unless_asked()
pypdfium2 = pytest.importorskip("pypdfium2")
pytestmark = pytest.mark.browser
TOC = "format: jb-book\nroot: book/intro\nparts:\n- caption: Before\n  chapters:\n  - file: book/notation\n" \
      "- caption: Work\n  numbered: 1\n  chapters:\n  - file: chapters/foundations/measuring_efficiency\n"
ADDRESSES = ["book/intro.html", "book/notation.html", "chapters/foundations/measuring_efficiency.html"]
ARTICLES = {address: BeautifulSoup((browser.HTML / address).read_text(encoding="utf-8"), "html.parser").article
            for address in ADDRESSES}


def squeezed(text):
    """Letters, digits and signs alone: wrapped lines, and how a PDF spells its spaces, make no difference."""
    return re.sub(r"[\s\u00ad\u200b\ufffe\x02-]+", "", text)


@pytest.fixture(scope="module")
def printed(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdf")
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    cut = pdf.make(chromium, browser.HTML, folder / "_toc.yml", folder / "book.pdf")
    with pypdfium2.PdfDocument(folder / "book.pdf") as document:
        yield document, cut, folder / "book.pdf"


@pytest.fixture(scope="module")
def text(printed):
    return squeezed("".join(sheet.get_textpage().get_text_range() for sheet in printed[0]))


def test_nothing_is_wider_than_the_paper(printed):
    assert printed[1] == []


def test_no_ink_lies_in_the_margins_where_a_printer_cuts(printed):
    require_clear_margins(printed[0])


def require_clear_margins(document):
    for number, sheet in enumerate(document, start=1):
        grey = sheet.render(scale=1).to_pil().convert("L")
        width, height = grey.size
        margin = round(width * 14 / 210)                       # text stands 16 mm from the edge
        for side in ((0, 0, margin, height), (width - margin, 0, width, height)):
            assert grey.crop(side).getextrema() == (255, 255), f"sheet {number}"
        assert grey.getextrema()[0] < 128, f"sheet {number} is empty"


def test_above_each_sheet_but_the_first_stand_the_book_and_the_chapter(printed):
    heads = [sheet.get_textpage().get_text_bounded(bottom=sheet.get_height() - 48).split() for sheet in printed[0]]
    assert heads[0] == [] and all(head[:2] == ["LightViT", "Lab"] for head in heads[1:])
    said = [" ".join(head[2:]) for head in heads[1:]]
    assert said[:2] == ["Contents", "Introduction"] and "Before" in said and said[-1].endswith("Measuring efficiency")


def test_hardly_a_sheet_is_less_than_half_full(printed):
    shares = [share for share in pdf.filled(printed[2])[2:]]            # less cover and contents of so small a book
    assert sum(share < pdf.HALF for share in shares) <= 3               # three pages end somewhere


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_line_of_code_and_of_output_is_there(text, address):
    blocks = ARTICLES[address].select("pre")
    solutions = {id(block) for fold in ARTICLES[address].select("details.hide")
                 if "A solution" in fold.summary.text for block in fold.select("pre")}
    lines = [line for block in blocks if id(block) not in solutions for line in block.text.splitlines() if line.strip()]
    assert lines or "chapters" not in address
    missing = [line for line in lines if squeezed(line) not in text]
    assert missing == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_cell_of_a_table_is_there(text, address):
    cells = [cell for cell in ARTICLES[address].select("table th, table td") if not cell.select(".math")]
    assert cells or address != "book/notation.html"
    assert [cell.text for cell in cells if squeezed(cell.text) not in text] == []


def test_solutions_stay_folded_and_say_so(text):
    folds = ARTICLES[ADDRESSES[2]].select("details.hide")
    solutions = [fold for fold in folds if "A solution" in fold.summary.text]
    assert len(solutions) >= 3 and text.count("Asolutionisfoldedhere.") == len(solutions)
    assert squeezed("answer = 1 / (0.3 + 0.7 / 4)") not in text


def test_answers_to_predictions_stand_at_the_end_of_the_page(text):
    asked = ARTICLES[ADDRESSES[2]].select(".lab-predict")
    first, last = text.index("Predictfirst(1)"), text.index(squeezed("Answers to “predict first”"))
    assert asked and first < last
    assert squeezed(asked[0]["data-shown"]) in text[last:]
    assert "Commit" not in text[first:last]


def once(title: str) -> str:
    """A bookmark's title; some versions of Chromium write that of a heading with a logo twice."""
    half = len(title) // 2
    return title[:half] if title[:half] == title[half:] else title


def test_pages_stand_in_the_order_of_the_contents_under_bookmarks(printed):
    marks = [(mark.level, once(" ".join(mark.get_title().split())), mark.get_dest().get_index())
             for mark in printed[0].get_toc()]
    parts = [mark for mark in marks if mark[0] == 0]
    assert [title for _, title, _ in parts] == ["Contents", "LightViT Lab", "Before", "Work"]
    chapters = [title for level, title, _ in marks if level == 1]
    assert "Notation" in chapters and chapters[-1].endswith("Measuring efficiency")
    assert [sheet for *_, sheet in marks] == sorted(sheet for *_, sheet in marks)
    contents = squeezed(printed[0][1].get_textpage().get_text_range())
    begins = {title: sheet + 1 for level, title, sheet in marks if level <= 1}
    assert all(f"{name.replace(' ', '')}{begins[name]}" in contents for name in ("LightViT Lab", "Notation"))


def test_links_lead_from_page_to_page_inside_the_file(printed):
    import pypdfium2.raw as raw

    inside = 0
    for sheet in printed[0]:
        links = [raw.FPDFLink_GetDest(printed[0].raw, link) for link in _links(raw, sheet)]
        inside += sum(bool(link) for link in links)
    expected = sum(len(article.select('a.reference.internal[href]')) for article in ARTICLES.values())
    assert expected > 5 and inside >= 3                       # links to pages that are not printed lead nowhere


def _links(raw, sheet):
    import ctypes

    start, link = ctypes.c_int(0), raw.FPDF_LINK()
    while raw.FPDFLink_Enumerate(sheet.raw, start, link):
        yield link


def test_the_file_keeps_its_tags_and_its_language_for_screen_readers(printed):
    import pypdfium2.raw as raw

    assert raw.FPDFCatalog_IsTagged(printed[0].raw)


def test_a_page_that_was_not_built_is_named(tmp_path):
    (tmp_path / "_toc.yml").write_text(TOC.replace("book/notation", "book/gone"), encoding="utf-8")
    with pytest.raises(LabError, match="gone.html is not there; build the whole book first"):
        print_page.whole_book(browser.HTML, tmp_path / "_toc.yml", pdf.project(pdf.ROOT), {})


def test_what_is_too_wide_would_be_seen(chromium):
    page = '<main class="bd-article" id="page"><div id="wide" style="width:900px">wide</div></main>'
    with pdf.printing_tab(chromium, browser.HTML, page) as tab:
        assert [found.split(":")[0] for found in pdf.too_wide(tab)] == ["wide"]


def test_a_formula_that_is_not_typeset_is_refused(chromium):
    with pytest.raises(LabError, match="1 formulas are not typeset"):
        with pdf.printing_tab(chromium, browser.HTML, '<main class="bd-article"><p class="math">x</p></main>'):
            pass


def test_a_reader_who_prints_one_page_gets_it_open_and_light_and_the_page_back_as_it_was(chromium, origin):
    with browser.open_tab(chromium, origin, ADDRESSES[2]) as tab:
        tab.use_theme("dark")
        state = ("() => [document.documentElement.dataset.theme,"
                 " ...[...document.querySelectorAll('details')].map(fold => fold.open)]")
        before = tab.page.evaluate(state)
        tab.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        during = tab.page.evaluate(state)
        tab.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert before[0] == "dark" and during[0] == "light" and tab.page.evaluate(state) == before
        with pypdfium2.PdfDocument(tab.page.pdf(prefer_css_page_size=True, print_background=True)) as document:
            sheets = [sheet.get_textpage().get_text_range() for sheet in document]
            text = squeezed("".join(sheets))
            require_clear_margins(document)
        assert "Measuringefficiency" in text and squeezed("answer = 1 / (0.3 + 0.7 / 4)") not in text
        assert "Openissue" not in text and "Searchthebook" not in text
