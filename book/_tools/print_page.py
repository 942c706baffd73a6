"""The whole book as one HTML page for printing: the built pages, their links made internal.

`pdf.py` prints it. One document, rather than one PDF a page and a merge: so links lead from page to
page, headings become bookmarks, and the tags that screen readers need stay in the file.

Sphinx's own builder for one page, singlehtml, was tried: it drops the titles of the parts, gives
pages the same ids (42 of 122 links between pages, those of citations, lead astray), has no place
for answers or page numbers, and executes every page again where a variable differs from that of the
build. What is here prints exactly what was built.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from sphinx_external_toc.parsing import parse_toc_yaml

from lightvit_lab.errors import LabError

# the scripts that a printed page keeps, of all that a page loads
PRINT_SCRIPTS = re.compile(r"MathJax|plotly|_static/(?:plots|print)\.js", re.IGNORECASE)
# a page with this has nothing to say on paper: it sums up what a reader's browser remembers
ONLY_ON_SCREEN = "#lab-guesses"


@dataclass(frozen=True)
class Chapter:
    """One page: address below the built book, title of its part ("" in front), its article.

    Chapters are numbered; other pages follow each other on a sheet.
    """

    address: str
    part: str
    article: Tag
    numbered: bool = False

    @property
    def slug(self) -> str:
        """The page's anchor in the whole book."""
        return slug(self.address)

    @property
    def head(self) -> str:
        """What stands above its sheets at the right: its title, or that of its part."""
        return self.title if self.numbered else self.part or "Introduction"

    @property
    def title(self) -> str:
        """The page's own title, with its number."""
        heading = self.article.select_one("h1, h2")
        texts = [text for text in heading.strings if text.parent.name != "a"]
        return " ".join("".join(texts).split())


def slug(address: str) -> str:
    """`chapters/a/b.html` -> `chapters-a-b`."""
    return address.removesuffix(".html").replace("/", "-")


def addresses(toc: Path) -> list[tuple[str, str, bool]]:
    """For every page, in the order of `_toc.yml`: title of its part, address, has it a number."""
    root = parse_toc_yaml(toc).root
    trees = [(tree.caption or "", name, bool(tree.numbered))
             for tree in root.subtrees for name in tree.files()]
    return [(part, f"{name}.html", numbered)
            for part, name, numbered in [("", root.docname, False), *trees]]


def whole_book(html: Path, toc: Path, project: dict[str, str], numbers: dict[str, int],
               tight: Collection[str] = ()) -> str:
    """The HTML of the whole book; `numbers` holds by slug the sheet of a page, where known.

    `project` holds the texts of the title page (`pdf.project`), `tight` the slugs of chapters to
    set tighter. Raises LabError where a page of the table of contents has not been built.
    """
    chapters, scripts = [], {}
    for part, address, numbered in addresses(toc):
        if not (html / address).is_file():
            raise LabError(f"pdf: {html / address} is not there; build the whole book first "
                           "(make book)")
        page = BeautifulSoup((html / address).read_text(encoding="utf-8"), "html.parser")
        article = page.find("article", class_="bd-article")
        if article.select_one(ONLY_ON_SCREEN):
            continue
        scripts |= dict.fromkeys(styles_and_scripts(page.head, address))
        chapters.append(Chapter(address, part, article, numbered))
    for chapter in chapters:
        make_internal(chapter, {other.address for other in chapters})
        append_answers(chapter)
    printed = "".join(printed_pages(chapters, tight))
    body = title_page(project) + contents(chapters, numbers) + printed
    return ('<!doctype html><html lang="en" data-theme="light" data-mode="light">'
            f'<head><meta charset="utf-8"><title>{escape(project["title"])}</title>'
            f'{"".join(scripts)}{running_heads(project["title"], chapters)}</head>'
            '<body class="lab-book">'
            '<main class="bd-main"><div class="bd-content"><div class="bd-article-container">'
            f'<article class="bd-article">{body}</article></div></div></main></body></html>')


def styles_and_scripts(head: Tag, address: str) -> list[str]:
    """Style sheets, and the scripts that draw formulas and figures, addressed from the root."""
    scripts = [script for script in head.find_all("script")
               if PRINT_SCRIPTS.search(script.get("src") or script.text)]
    elements = [*head.find_all("link", rel="stylesheet"), *scripts]
    for element in elements:
        for name in ("href", "src"):
            if element.get(name):
                element[name] = below_root(element[name], address)
    return [str(element) for element in elements]


def below_root(link: str, address: str) -> str:
    """A link of the page at `address`, as one from the book's root; other links as they are."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(address), parts.path))
    return path + (f"#{parts.fragment}" if parts.fragment else "")


def make_internal(chapter: Chapter, known: set[str]) -> None:
    """Give a page's anchors names of its own, and let its links lead to those of the whole book.

    Links to files of the built book that are no pages, such as downloads, become plain text: a
    reader of the PDF has none of them.
    """
    for tag in chapter.article.find_all(True):
        if tag.find_parent(class_="cell_output"):     # scripts in there look for their own ids
            continue
        for name in ("id", "for"):
            if tag.get(name):
                tag[name] = f"{chapter.slug}--{tag[name]}"
        for name in ("aria-labelledby", "aria-describedby"):
            if tag.get(name):
                tag[name] = " ".join(f"{chapter.slug}--{one}" for one in tag[name].split())
    for image in chapter.article.find_all("img", src=True):
        image["src"] = below_root(image["src"], chapter.address)
    for link in chapter.article.find_all("a", href=True):
        parts = urlsplit(below_root(link["href"], chapter.address))
        target = parts.path or chapter.address
        if target in known and not parts.netloc:
            link["href"] = f"#{slug(target)}" + (f"--{parts.fragment}" if parts.fragment else "")
        elif not parts.scheme:
            link.unwrap()


def append_answers(chapter: Chapter) -> None:
    """Number a page's predictions, and put their answers at its end: paper has no buttons."""
    questions = chapter.article.select(".lab-predict")
    if not questions:
        return
    answers = []
    for number, question in enumerate(questions, start=1):
        question.find("strong").string = f"Predict first ({number})."
        explanation = escape(question.get("data-explain", ""))
        answer = f"<li>{escape(question['data-shown'])}. {explanation}</li>"
        answers.append(answer.replace(". </li>", ".</li>"))
    text = f'<h2>Answers to “predict first”</h2><ol class="lab-answers">{"".join(answers)}</ol>'
    chapter.article.append(BeautifulSoup(text, "html.parser"))


def title_page(project: dict[str, str]) -> str:
    """The first sheet."""
    texts = {name: escape(text) for name, text in project.items()}
    return ('<div class="lab-title-page"><img src="_static/logo.svg" alt="">'
            f'<p class="lab-book-title">{texts["title"]}</p>'
            f'<p>{texts["description"]}</p><p>{texts["author"]}</p>'
            f'<small>Version {texts["version"]}, printed on {texts["date"]}<br>'
            'Code: MIT licence. Text and figures: CC BY 4.0<br>'
            f'<a href="{texts["repository"]}">{texts["repository"]}</a></small></div>')


def contents(chapters: list[Chapter], numbers: dict[str, int]) -> str:
    """The table of contents, with links and page numbers."""
    parts: dict[str, list[str]] = {}
    for chapter in chapters:
        number = numbers.get(chapter.slug, "000")
        entry = (f'<li><a href="#{chapter.slug}">{escape(chapter.title)}'
                 f'<span class="lab-page-number">{number}</span></a></li>')
        parts.setdefault(chapter.part, []).append(entry)
    items = "".join(f"<li>{escape(part)}<ol>{''.join(entries)}</ol></li>"
                    for part, entries in parts.items())
    return ('<nav class="lab-contents" style="page:sheets-contents"><h1>Contents</h1>'
            f"<ol>{items}</ol></nav>")


def printed_pages(chapters: list[Chapter], tight: Collection[str]) -> list[str]:
    """Each page, a part's title above its first; headings go down a level.

    A chapter begins on a new sheet, and so does a part; other pages run on. Those of `tight` have
    their lines closer together.
    """
    pages, part = [], ""
    for chapter in chapters:
        first, part = chapter.part != part, chapter.part
        title = f'<h1 class="lab-part">{escape(part)}</h1>' if first else ""
        for heading in chapter.article.find_all(re.compile(r"^h[1-5]$")) if part else ():
            heading.name = f"h{int(heading.name[1]) + 1}"
        kind = "lab-chapter" if part else "lab-chapter lab-front"
        kind += "" if chapter.numbered or first or not part else " lab-runs-on"
        kind += " lab-tight" if chapter.slug in tight else ""
        pages.append(f'<div class="{kind}" id="{chapter.slug}" style="page:{sheets_of(chapter)}">'
                     f'{title}{chapter.article.decode_contents()}</div>')
    return pages


def sheets_of(chapter: Chapter) -> str:
    """The name, in CSS, of the sheets that a page is printed on; those of one head share it."""
    return "sheets-" + re.sub(r"\W+", "-", chapter.head.lower())


def running_heads(book: str, chapters: list[Chapter]) -> str:
    """What stands above each sheet: at the left the book's title, at the right the chapter's."""
    heads = {"sheets-contents": "Contents"} | {sheets_of(one): one.head for one in chapters}
    rules = [f"@page {sheets} {{ @top-left {{ content: {json.dumps(book)} }} "
             f"@top-right {{ content: {json.dumps(head, ensure_ascii=False)} }} }}"
             for sheets, head in heads.items()]
    text = "\n".join(rules).replace("<", "\\3c ")
    return f"<style>\n{text}\n</style>"
