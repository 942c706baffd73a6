"""What derives from the pages: `{teaching-plan}`, `{lectures}`, `{count}`, words to find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import lessons
from docutils import nodes
from docutils.statemachine import StringList
from lab_status import TableDirective
from lessons import Lesson
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from lightvit_lab.errors import LabError

logger = logging.getLogger(__name__)


class TeachingPlan(TableDirective):
    """Week by week: the pages, linked where they are written, and the question to begin with."""

    header = ("Week", "Pages", "The question to begin with")

    def rows(self) -> Iterable[Sequence[str]]:
        """One week a row."""
        return plan_rows(lessons.lessons(Path(self.env.srcdir)))


class Lectures(SphinxDirective):
    """For each written page, how its sections fill lectures."""

    def run(self) -> list[nodes.Node]:
        """A line with the page's title, then its list."""
        self.env.note_reread()
        written = [lesson for lesson in lessons.lessons(Path(self.env.srcdir)) if lesson.lectures]
        text = "\n\n".join(f"**{_link(lesson)}**\n\n{lesson.lectures}" for lesson in written)
        container = nodes.container(classes=["lab-lectures"])
        lines = StringList(text.split("\n"), self.env.doc2path(self.env.docname))
        self.state.nested_parse(lines, 0, container)
        return [container]


class Count(SphinxRole):
    """A number that derives from the tree, such as that of the pages."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number as text; a word that `lessons.counts` lacks is an error."""
        self.env.note_reread()
        known = lessons.counts(Path(self.env.srcdir))
        if self.text not in known:
            text = f"count: {self.text!r} is not counted; {', '.join(known)} are"
            return [], [self.inliner.reporter.error(text, line=self.lineno)]
        return [nodes.Text(str(known[self.text]))], []


def plan_rows(every: list[Lesson]) -> list[tuple[str, str, str]]:
    """The rows of the plan, in Markdown; what is planned is in italics and has no link."""
    entries = sorted(((week, lesson) for lesson in every for week in lesson.weeks),
                     key=lambda entry: entry[0])
    rows = []
    for week, group in groupby(entries, key=lambda entry: entry[0]):
        pages = [lesson for _, lesson in group]
        names = [_link(lesson) if lesson.written else f"*{lesson.title}*" for lesson in pages]
        rows.append((str(week), ", ".join(names), " ".join(lesson.weeks[week] for lesson in pages)))
    return rows


def _link(lesson: Lesson) -> str:
    return f"{{doc}}`/chapters/{lesson.page}`"


class WordsToFind(SphinxTransform):
    """Put the words that a page's lesson names into the index, where the search finds them."""

    default_priority = 840          # before Sphinx reads the index of a page, at 850

    def apply(self, **_options: Any) -> None:
        """An index node below the title of each section that has such words."""
        page = Path(self.env.doc2path(self.env.docname))
        if page.suffix != ".md":
            return
        try:
            found = lessons.words_to_find(page)
        except LabError as error:
            logger.warning("%s", error, location=self.env.docname)
            return
        sections = {name: section for section in self.document.findall(nodes.section)
                    for name in section["ids"]}
        for anchor, words in found.items():
            if anchor in sections:
                entries = [("single", word, anchor, "main", None) for word in words]
                sections[anchor].insert(1, addnodes.index(entries=entries))
            else:
                logger.warning("find: no section has the anchor %r; there are %s", anchor,
                               ", ".join(sections), location=self.env.docname)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add directives and role; called by `lightvit_book`."""
    app.add_directive("teaching-plan", TeachingPlan)
    app.add_directive("lectures", Lectures)
    app.add_role("count", Count())
    app.add_transform(WordsToFind)
    return {}
