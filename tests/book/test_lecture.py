"""Slides and the sheet of predictions: with a built book all figures and answers, without one what the page says."""

import ast
import re

import lecture
import lessons
import notebooks
import pytest
from bs4 import BeautifulSoup

from lightvit_lab.exercises import predict

PAGES = lessons.in_reading_order(notebooks.ROOT)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
FIGURE = ('<figure class="lab-figure" aria-label="A line that rises."><div class="lab-plot"><noscript>'
          '<img class="lab-still" src="../../_images/stills/one.svg" alt=""></noscript></div>'
          "<figcaption><p>It rises to 2.</p><details><summary>Data table</summary></details></figcaption></figure>")
FILM = ('<div class="lab-card" data-kind="film" aria-label="Patches that merge">'
        '<div class="lab-film-state"><img alt="Before" src="data:image/png;base64,aa"><p class="lab-film-caption">All.</p></div>'
        '<div class="lab-film-state"><img alt="After" src="data:image/png;base64,bb"><p class="lab-film-caption">Half.</p></div></div>')
CHART = ('<div class="lab-card" data-kind="film" aria-label="Bars that grow"><div class="lab-film-state"><svg></svg>'
         '<p class="lab-film-caption">First.</p></div><div class="lab-film-state"><svg></svg><p class="lab-film-caption">Last.</p></div></div>')
PAGE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
lesson:
  weeks:
    8: Why merge?
  lectures: |
    * 50 minutes: "How many?" (*Warm up* in class).
---

# Token merging

**How many of $N$ tokens are needed, and
who says so?**

```{diagram} token_merging
The most similar pairs become $r$ tokens.
```

## How many?

```{code-cell} ipython3
:tags: [remove-input]

predict(f"Of {64} tokens, how many " + "are left?", answer=left, unit="tokens", explain="Half.")
predict("Which is `faster`?", answer="ours", choices=["ours", "theirs"])
```
"""


@pytest.fixture
def book(tmp_path):
    """A repository with one page, and the folder of its built book, which is not there yet."""
    page = tmp_path / "chapters/dynamic/token_merging.md"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE)
    drawing = tmp_path / "book/_static/diagrams/token_merging.svg"
    drawing.parent.mkdir(parents=True)
    drawing.write_text(SVG)
    (tmp_path / "pyproject.toml").write_text((notebooks.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return page, tmp_path / "html"


def build(html, *parts):
    folder = html / "chapters/dynamic"
    folder.mkdir(parents=True)
    (html / "_images/stills").mkdir(parents=True)
    (html / "_images/stills/one.svg").write_text(SVG)
    (folder / "token_merging.html").write_text(
        '<article><h2>How many?<a class="headerlink" href="#x">#</a></h2>' + "".join(parts) + "</article>")


ASKED = [predict("Of 64 tokens, how many are left?", 32, unit="tokens", explain="Half.")._repr_html_(),
         predict("Which is `faster`?", "ours", choices=["ours", "theirs"])._repr_html_()]


def talk(book):
    page, html = book
    return lecture.talk(page, html, page.parents[2])


def test_without_a_built_book_questions_are_those_of_the_page_and_a_computed_answer_is_to_be_run(book):
    one, two = talk(book).steps
    assert one == lecture.Question("How many?", "Of … tokens, how many are left?", (), "tokens", "", "Half.")
    assert two == lecture.Question("How many?", "Which is `faster`?", ("ours", "theirs"), "", "ours", "")
    sheet = lecture.predictions([talk(book)], "0123456789abcdef")
    assert f"**Answer:** {lecture.RUN} Half." in sheet and "   - theirs\n\n   **Answer:** ours" in sheet


def test_the_built_book_gives_answers_figures_and_findings_in_its_order(book):
    build(book[1], ASKED[0], FIGURE, FILM, CHART, ASKED[1])
    first, line, before, after, chart, last = talk(book).steps
    assert (first.text, first.answer, first.explain) == ("Of 64 tokens, how many are left?", "32 tokens", "Half.")
    assert (line.section, line.alt, line.finding) == ("How many?", "A line that rises.", "It rises to 2.")
    assert line.source.startswith("data:image/svg+xml;base64,")
    assert [(one.alt, one.finding) for one in (before, after)] == [("Before", "All."), ("After", "Half.")]
    assert (chart.alt, chart.finding, chart.source) == ("Bars that grow", "Last.", "")
    assert last.choices == ("ours", "theirs") and last.answer == "ours"


def test_a_book_that_is_older_than_the_page_is_not_asked(book):
    build(book[1], ASKED[0])
    assert [step.answer for step in talk(book).steps] == ["", "ours"]


def test_the_answer_stands_on_the_slide_after_its_question_and_nowhere_before(book):
    build(book[1], *ASKED, FIGURE)
    slides = BeautifulSoup(lecture.slides(talk(book), "0123456789abcdef"), "html.parser").select("section")
    texts = [slide.get_text(" ", strip=True) for slide in slides]
    assert len(slides) == 2 + 2 * 2 + 1 + 1
    assert "How many of" in texts[0] and slides[0].em.text == "N" and "who says so?" in texts[0]
    assert slides[1].svg and "pairs become" in texts[1]
    assert "how many are left" in texts[2] and "32 tokens" not in " ".join(texts[:3]) and "32 tokens" in texts[3]
    assert slides[4].code.text == "faster" and not slides[4].select(".answer") and "ours" in slides[5].select_one(".answer").text
    assert slides[6].img["alt"] == "A line that rises." and "It rises to 2." in texts[6]
    assert "plan of the talk" in texts[7] and slides[7].li.em.text == "Warm up"


def test_slides_need_no_other_file_and_escape_what_they_show(book):
    build(book[1], *ASKED, FIGURE.replace("It rises to 2.", "2 &lt; 3"), FILM)
    text = lecture.slides(talk(book), "main")
    assert "2 &lt; 3" in text and re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


@pytest.mark.parametrize(("code", "text"), [
    ("'a' 'b'", "ab"), ("f'{x} of {y:.1f}'", "… of …"), ("'{:.1%} of {}'.format(x, y)", "… of …"), ("f'{x}' + ' b'", "… b"),
    ("name", "…"), ("3", "3")])
def test_of_an_expression_the_part_that_is_known_is_shown(code, text):
    assert lecture.words(ast.parse(code, mode="eval").body) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_a_question_a_plan_and_predictions_with_the_sections_they_stand_in(page, tmp_path):
    found = lecture.talk(page, tmp_path)
    assert len(found.question.split()) > 8 and found.plan and len(found.questions) >= 2
    titles = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for question in found.questions:
        assert question.section in titles and len(question.text.split()) > 5
    assert page.read_text(encoding="utf-8").count("\npredict(") == len(found.questions)
