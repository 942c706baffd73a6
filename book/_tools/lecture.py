"""What a lecture needs of a page, read from the page and, where there is one, from the built book.

    talk(page, html)        question, drawing, plan of the talk, predictions, figures
    slides(talk, ref)       one HTML file that needs no other: arrow keys turn the slides
    predictions(talks)      all predictions with their answers, in Markdown

Answers and findings are computed when the book is built. Without a built book, or where it is older
than the page, the slides have the questions and say where the answer is to be found.
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import diagrams
import lessons
import notebooks
from bs4 import BeautifulSoup, Tag
from markdown_it import MarkdownIt
from myst_markdown import Page, inline

from lightvit_lab.exercises import boxes

ASKED = re.compile(r"^\*\*(.+?)\*\*$", re.MULTILINE | re.DOTALL)
DRAWN = re.compile(r"^```\{diagram\} (\w+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
RUN = "Run the cell on the page: the answer is computed there."
SHOWN = "h2, .lab-predict, figure.lab-figure, .lab-card, .lab-explorer"
CODE = MarkdownIt()


@dataclass(frozen=True)
class Question:
    """A prediction: in which section, what it asks, and the answer, "" where nobody computed it."""

    section: str
    text: str
    choices: tuple[str, ...] = ()
    unit: str = ""
    answer: str = ""
    explain: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: in which section, what is to be seen, what it shows, and its address, if any."""

    section: str
    alt: str
    finding: str
    source: str = ""


@dataclass(frozen=True)
class Talk:
    """All that the slides of one page are made of."""

    stem: str
    title: str
    question: str
    plan: str
    drawing: str = ""
    caption: str = ""
    steps: list[Question | Picture] = field(default_factory=list)

    @property
    def questions(self) -> list[Question]:
        """Its predictions."""
        return [step for step in self.steps if isinstance(step, Question)]


def talk(page: Path, html: Path, root: Path = notebooks.ROOT) -> Talk:
    """The talk on a page; `html` is the built book, which need not be there."""
    repository = notebooks.read_project(root)["urls"]["Repository"].rstrip("/")
    reading = Page(page.resolve(), root, repository, "main")
    lesson = lessons.read(page)
    asked, drawn = ASKED.search(reading.text), DRAWN.search(reading.text)
    plain = [inline(reading, found[group], 1) if found else ""
             for found, group in ((asked, 1), (drawn, 2))]
    steps = list(asked_in(reading))
    built = html / "chapters" / f"{lesson.page}.html"
    if built.is_file():
        found = list(shown_in(built, html))
        if sum(isinstance(step, Question) for step in found) == len(steps):
            steps = found           # else the page has changed since the book was built
    svg = diagrams.read(drawn[1], plain[1], page.name).svg if drawn else ""
    return Talk(page.stem, lesson.title, plain[0] or lesson.question, lesson.lectures, svg,
                plain[1], steps)


# --- from the page

def asked_in(page: Page) -> Iterator[Question]:
    """The predictions of a page that was not built."""
    section = ""
    for cell in notebooks.cells_of(page, solutions=True):
        if cell.cell_type == "markdown":
            titles = re.findall(r"^## (.+)$", cell.source, re.MULTILINE)
            section = titles[-1] if titles else section
        else:
            for call in ast.walk(ast.parse(cell.source)):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "predict":
                    yield question_of(call, section)


def question_of(call: ast.Call, section: str) -> Question:
    """The prediction that a call of `predict` makes; what is computed is an ellipsis."""
    given = {word.arg: word.value for word in call.keywords}
    asked = call.args[0] if call.args else given["question"]
    answer, choices = given.get("answer"), given.get("choices")
    unit = words(given["unit"]) if "unit" in given else ""
    shown = words(answer) if isinstance(answer, ast.Constant) else ""
    return Question(section, words(asked),
                    tuple(map(words, choices.elts)) if isinstance(choices, ast.List) else (), unit,
                    f"{shown} {unit}".strip() if shown else "",
                    words(given["explain"]) if "explain" in given else "")


def words(node: ast.expr) -> str:
    """The text of an expression; "…" stands for each part that only running it gives."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(words, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words(node.left) + words(node.right)
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "format":
        return re.sub(r"\{[^{}]*\}", "…", words(node.func.value))
    return "…"


# --- from the built book

def shown_in(built: Path, html: Path) -> Iterator[Question | Picture]:
    """The predictions and figures of a built page, in its order."""
    section = ""
    article = BeautifulSoup(built.read_text(encoding="utf-8"), "html.parser").find("article")
    for tag in article.select(SHOWN):
        if tag.name == "h2":
            section = text_of(tag)
        elif "lab-predict" in tag["class"]:
            yield shown_question(tag, section)
        else:
            for state in states_of(tag):
                yield shown_picture(state, section, built.parent, html)


def states_of(tag: Tag) -> list[Tag]:
    """The states of a film, one a slide, where each is one picture; else the figure itself."""
    states = tag.select(".lab-film-state")
    plain = all(len(state.select("img")) == 1 and not state.select("svg") for state in states)
    return states if states and plain else [tag]


def shown_question(tag: Tag, section: str) -> Question:
    """A prediction, as its box in the page has it."""
    choices = tuple(one["value"] for one in tag.select("input[type=radio]"))
    return Question(section, tag["data-question"], choices, tag.get("data-unit", ""),
                    tag["data-shown"], tag.get("data-explain", ""))


def shown_picture(tag: Tag, section: str, folder: Path, html: Path) -> Picture:
    """A figure, a state of a film, the picture that an explorer opens with; a card has none."""
    card = "lab-card" in tag["class"]
    image = None if card else tag.select_one("img.lab-still, img.lab-explorer-still, img")
    said = tag.select(".lab-film-caption, .lab-card-finding, figcaption > p, .lab-explorer-finding")
    alt = tag.get("aria-label", "") if card or not image else image["alt"] or tag["aria-label"]
    source = image["src"] if image else ""
    return Picture(section, alt, " ".join(map(text_of, said[-1:] if card else said)),
                   embedded(source, folder, html))


def text_of(tag: Tag) -> str:
    """The words of an element, without the sign of its link."""
    return " ".join("".join(text for text in tag.strings
                            if "headerlink" not in text.parent.get("class", [])).split())


def embedded(source: str, folder: Path, html: Path) -> str:
    """The address of a picture as data: the slides need no other file; "" where it is not there."""
    file = (folder / source).resolve()
    if source.startswith("data:") or not source:
        return source
    if not (file.suffix == ".svg" and file.is_file() and file.is_relative_to(html.resolve())):
        return ""
    return "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode()


# --- what is written

def slides(talk: Talk, ref: str) -> str:
    """The slides of a talk, as one HTML file."""
    parts = [f"<h1>{escape(talk.title)}</h1>{rendered(f'**{talk.question}**')}"]
    if talk.drawing:
        parts.append(f'<div class="drawing">{talk.drawing}</div>{rendered(talk.caption)}')
    for step in talk.steps:
        parts += question_slides(step) if isinstance(step, Question) else [picture_slide(step)]
    if talk.plan:
        parts.append(f"<h2>For the teacher: plan of the talk</h2>{rendered(talk.plan)}"
                     "<p>Sections stand in quotation marks, exercises in italics.</p>")
    foot = f"LightViT Lab, {escape(talk.title)}, commit {ref[:12]}. CC BY 4.0"
    body = "".join(f'<section aria-label="Slide {number} of {len(parts)}">{part}<footer>{foot} '
                   f"<span>{number}</span></footer></section>\n"
                   for number, part in enumerate(parts, 1))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(talk.title)}: slides</title><style>{STYLE}</style></head>\n"
            f"<body>\n{body}<script>{SCRIPT}</script></body></html>\n")


def question_slides(question: Question) -> list[str]:
    """Two slides: the question, and the same with its answer."""
    choices = "".join(f"<li>{boxes.inline(choice)}</li>" for choice in question.choices)
    asked = (f"<h2>{escape(question.section)}</h2><p class='asked'><b>Predict first.</b> "
             f"{boxes.inline(question.text)}</p><ul>{choices}</ul>".replace("<ul></ul>", ""))
    unit = f"<p>Your guess, in {escape(question.unit)}</p>" if question.unit else ""
    answer = f"<p class='answer'>{boxes.inline(question.answer or RUN)}</p>"
    return [asked + unit, f"{asked}{answer}<p>{boxes.inline(question.explain)}</p>"]


def picture_slide(picture: Picture) -> str:
    """A figure below its section's title, or its description where the picture is not at hand."""
    drawn = (f'<img src="{picture.source}" alt="{escape(picture.alt)}">' if picture.source
             else f"<p>{escape(picture.alt)} <i>The figure moves: show it on the page.</i></p>")
    return f"<h2>{escape(picture.section)}</h2>{drawn}<p>{escape(picture.finding)}</p>"


def rendered(text: str) -> str:
    """Markdown as HTML; short formulas, such as $k$, in italics."""
    return CODE.render(re.sub(r"\$(\w+)\$", r"*\1*", text))


def predictions(talks: list[Talk], ref: str) -> str:
    """The sheet of all predictions."""
    lines = ["# Predictions and their answers", f"LightViT Lab, commit `{ref[:12]}`. For teachers.",
             "Let the class commit to a guess before you show the answer: by hands, on paper, or "
             "in a poll. Answers were computed when the book was built."]
    for one in talks:
        lines += [f"## {one.title}"] if one.questions else []
        lines += [entry(number, question) for number, question in enumerate(one.questions, 1)]
    return "\n\n".join(lines) + "\n"


def entry(number: int, question: Question) -> str:
    """One prediction of the sheet."""
    unit = f" (in {question.unit})" if question.unit else ""
    choices = "".join(f"\n   - {choice}" for choice in question.choices)
    answer = f"{question.answer or RUN} {question.explain}".strip()
    return (f"{number}. *{question.section}.* {question.text}{unit}{choices}\n\n"
            f"   **Answer:** {answer}")


STYLE = """
:root { color-scheme: light; scroll-snap-type: y mandatory; }
body { margin: 0; font: 24px/1.45 system-ui, sans-serif; color: #222222; background: #ffffff; }
section {
  box-sizing: border-box; min-height: 100vh; padding: 4vh 6vw 7vh; position: relative;
  scroll-snap-align: start; display: flex; flex-direction: column; justify-content: center;
}
h1 { font-size: 2.4em; margin: 0 0 .4em; }
h2 { font-size: 1.1em; margin: 0 0 .8em; color: #555555; font-weight: 600; }
p, ul { margin: .4em 0; max-width: 44em; }
.asked { font-size: 1.3em; }
.answer { font-size: 2em; font-weight: 600; color: #0059b3; }
img { max-width: 100%; height: 62vh; object-fit: contain; object-position: left; }
.drawing > svg { height: 66vh; width: auto; max-width: 100%; }
html .lab-diagram {
  --ink: #222222; --muted: #555555; --one: #0072B2; --two: #D55E00;
  --tint: #BFDCEC; --ground: #FFFFFF;
}
footer { position: absolute; left: 6vw; right: 6vw; bottom: 2vh; font-size: .5em; color: #555555; }
footer span { float: right; }
@page { size: 297mm 167mm; margin: 0; }
@media print { section { height: 100vh; break-after: page; } }
"""
SCRIPT = """
const slides = [...document.querySelectorAll("section")];
const turn = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };
addEventListener("keydown", (event) => {
  if (!(event.key in turn)) return;
  event.preventDefault();
  const now = slides.findIndex((slide) => slide.getBoundingClientRect().bottom > innerHeight / 2);
  const next = slides[Math.min(slides.length - 1, Math.max(0, now + turn[event.key]))];
  next.scrollIntoView();
});
"""
