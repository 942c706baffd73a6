"""The closed list of directives a page may use, each as plain Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import diagrams
import road

from lightvit_lab.errors import LabError

TITLES = {"open-question": "Open question", "note": "Note", "tip": "Tip", "warning": "Warning",
          "important": "Important", "seealso": "See also"}
# stands for the reference list until the whole page has been read
BIBLIOGRAPHY = "\0bibliography\0"


@dataclass
class Directive:
    """One directive of a page: its parts as written, and converters for the Markdown inside it."""

    name: str
    argument: str
    options: dict[str, str]
    body: list[str]
    place: str                                  # "page.md:12", the line of its opening fence
    inner: Callable[[], list[str]]              # the body, converted
    inline: Callable[[str], str]                # one piece of text, converted
    raw_link: Callable[[str], str]              # a file of the repository -> its address
    equations: dict[str, int] = field(default_factory=dict)
    number: int | None = None                   # of an exercise on its page


def exercise(directive: Directive) -> list[str]:
    """A heading and the prompt; the cell below it holds the stub."""
    return [f"### {numbered('Exercise', directive)}", "", *directive.inner()]


def numbered(word: str, directive: Directive) -> str:
    """The word, the number that the exercise has on its page, and its title."""
    title = directive.inline(directive.argument)
    number = f" {directive.number}" if directive.number else ""
    return f"{word}{number}: {title}" if title else word + number


def admonition(directive: Directive) -> list[str]:
    """A block quote under a bold title; folded where the page folds it."""
    if directive.name == "open-question":
        title, body = numbered(TITLES[directive.name], directive), directive.inner()
    # the words after the name are the text's own first line
    elif directive.name in TITLES:
        first = [directive.inline(directive.argument)] if directive.argument else []
        title, body = TITLES[directive.name], first + directive.inner()
    else:
        title, body = directive.inline(directive.argument), directive.inner()
    if not title:
        raise LabError(f"{directive.place}: {{{directive.name}}} has no title; "
                       "give one on its first line")
    classes = directive.options.get("class", "").split()
    folded = directive.name == "dropdown" or "dropdown" in classes
    return fold(title, body) if folded else block_quote(title, body)


def block_quote(title: str, body: list[str]) -> list[str]:
    """A bold title and the body behind "> ".

    Display math goes into one line: notebooks read a "> " inside it as LaTeX.
    """
    text = re.sub(r"\$\$.+?\$\$", lambda math: " ".join(math[0].split()),
                  "\n".join(body).strip("\n"), flags=re.DOTALL)
    lines = [f"**{title.replace('**', '')}**", "", *text.split("\n")]
    return [("> " + line).rstrip() for line in lines]


def fold(title: str, body: list[str]) -> list[str]:
    """A `<details>` element; Markdown inside it needs the blank lines, its summary is HTML."""
    summary = re.sub(r"`([^`]+)`", r"<code>\1</code>", title)
    text = "\n".join(body).strip("\n")
    return ["<details>", f"<summary>{summary}</summary>", "", *text.split("\n"), "", "</details>"]


def math(directive: Directive) -> list[str]:
    """A display formula; a labelled one carries its number on the page."""
    body = "\n".join(filter(None, [directive.argument, *directive.body])).strip("\n")
    if re.search(r"\n[ \t]*\n", "\n".join(directive.body).strip("\n")):
        raise LabError(f"{directive.place}: a blank line splits the formula; "
                       "write two {math} blocks")
    if r"\\" in body:                           # what Sphinx does with several lines
        body = f"\\begin{{split}}\n{body}\n\\end{{split}}"
    label = directive.options.get("label")
    tag = [rf"\tag{{{directive.equations[label]}}}"] if label else []
    return ["$$", *body.split("\n"), *tag, "$$"]


def picture(directive: Directive) -> list[str]:
    """An image with its alternative text, its caption below."""
    alt = directive.options.get("alt", "").strip()
    if not alt:
        raise LabError(f"{directive.place}: the {directive.name} has no text for who cannot see "
                       "it; add `:alt: ...`")
    image = f"![{directive.inline(alt)}]({directive.raw_link(directive.argument)})"
    return [image, *(["", *directive.inner()] if any(directive.body) else [])]


def diagram(directive: Directive) -> list[str]:
    """A drawing of the book as an image, its caption below."""
    caption = "\n".join(directive.body)
    drawn = diagrams.read(directive.argument, caption, directive.place)
    address = directive.raw_link(f"/book/_static/diagrams/{drawn.path.name}")
    return [f"![{drawn.alt}]({address})", "", *directive.inner()]


def table(directive: Directive) -> list[str]:
    """A Markdown table under its caption."""
    return [*caption(directive), *directive.inner()]


def list_table(directive: Directive) -> list[str]:
    """A table written as a list of lists, its first row the header unless `:header-rows: 0`."""
    rows = rows_of(directive)
    if directive.options.get("header-rows", "0") == "0":
        rows.insert(0, [""] * len(rows[0]))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [*caption(directive), lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def rows_of(directive: Directive) -> list[list[str]]:
    """The cells of a list-table, row by row."""
    rows: list[list[str]] = []
    for line in filter(str.strip, directive.body):
        item = re.match(r"\s*(\*\s+)?-(?:\s+(.*)|$)", line)
        if item and item[1]:
            rows.append([])
        if not rows:
            raise LabError(f"{directive.place}: a list-table's first row starts with `* - `, not "
                           f"{line.strip()!r}")
        if item:
            rows[-1].append(item[2] or "")
        else:
            rows[-1][-1] += " " + line.strip()
    sizes = list(map(len, rows))
    if len(set(sizes)) != 1:
        raise LabError(f"{directive.place}: the rows of the list-table have {sizes} cells; "
                       "give every row the same number, at least one")
    for row in rows:
        row[:] = [escape_bars(directive.inline(cell.strip())) for cell in row]
    return rows


def escape_bars(cell: str) -> str:
    """A table's cell, its vertical bars escaped; in a formula `\\|` would be another symbol."""
    def escaped(found: re.Match[str]) -> str:
        return found[1].replace("|", r"\vert ") if found[1] else r"\|"

    return re.sub(r"(\$[^$]+\$)|\|", escaped, cell)


def caption(directive: Directive) -> list[str]:
    """The title of a table as a bold line, if it has one."""
    return [f"**{directive.inline(directive.argument)}**", ""] if directive.argument else []


def bibliography(directive: Directive) -> list[str]:
    """The works the page cites, put in when the whole page has been read."""
    return [BIBLIOGRAPHY]


def stretch(directive: Directive) -> list[str]:
    """What a section is on the road through the page, in a line; a notebook folds nothing."""
    sentence = " ".join(directive.inner()).strip()
    found = road.read(directive.argument, sentence, directive.place)
    return [f"*{found.words}{': ' + sentence if sentence else ''}*"]


DIRECTIVES: dict[str, Callable[[Directive], list[str]]] = {
    "exercise": exercise, "admonition": admonition, "dropdown": admonition,
    **dict.fromkeys(TITLES, admonition), "math": math, "figure": picture, "image": picture,
    "table": table, "list-table": list_table, "bibliography": bibliography,
    "road": stretch, "diagram": diagram,
}
