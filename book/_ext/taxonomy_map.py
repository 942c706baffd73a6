"""Sphinx extension: `{taxonomy-map}`, the book's pages by the branches of the survey, as cards.

A page that exists is a link with its own title. `{taxonomy-map} to come` has the cards of the pages
that do not exist: each is marked "to come" in words and has no link. Only standard docutils nodes
are used, so builders other than HTML write the same lists as plain text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parents[1] / "_tools"))   # where `lessons` lies

import lessons
from lessons import Lesson

from lightvit_lab import survey

TO_COME = "to come"


def leaves_of(page: str, title: str) -> list[str]:
    """Leaves of the surveys that the page `<part>/<stem>` covers, but none named like the page."""
    return [leaf.leaf for leaf in survey.taxonomy() if leaf.page == page and leaf.leaf != title]


class TaxonomyMap(SphinxDirective):
    """`{taxonomy-map}`, or `{taxonomy-map} to come`."""

    optional_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        """Nested lists: parts, and in each the cards of its pages; no part without pages."""
        if self.arguments not in ([], [TO_COME]):
            raise self.error(f"taxonomy-map: {self.arguments[0]!r} is no map; write {TO_COME!r}, "
                             "or nothing")
        self.env.note_dependency(str(lessons.PARTS))
        self.env.note_reread()   # a page added elsewhere turns its card here into a link
        tree = nodes.bullet_list(classes=["taxonomy-map"])
        every = [page for page in lessons.lessons(Path(self.env.srcdir))
                 if page.written == (not self.arguments)]
        for part in lessons.parts():
            pages = [page for page in every if page.page.startswith(f"{part['part']}/")]
            tree += [self._part(part, pages)] if pages else []
        return [tree] if tree.children else []

    def _part(self, part: dict[str, Any], pages: list[Lesson]) -> nodes.list_item:
        item = nodes.list_item(classes=["taxonomy-part", f"taxonomy-{part['part']}"])
        item += _paragraph(part["title"], "taxonomy-part-title")
        item += _paragraph(part["about"], "taxonomy-part-about")
        cards = nodes.bullet_list(classes=["taxonomy-pages"])
        cards += map(self._card, pages)
        item += cards
        return item

    def _card(self, page: Lesson) -> nodes.list_item:
        style = [] if page.written else ["taxonomy-to-come"]
        item = nodes.list_item(classes=["taxonomy-page", *style])
        title = _paragraph("", "taxonomy-title")
        title += [self._link(page.page)] if page.written else _unlinked(page.title)
        item += title
        item += _paragraph(page.question, "taxonomy-question")
        leaves = leaves_of(page.page, page.title)
        if leaves:
            item += _paragraph("Survey: " + ", ".join(leaves), "taxonomy-leaves")
        return item

    def _link(self, name: str) -> addnodes.pending_xref:
        """A link to the page, resolved after all are read, so that its text is the page's title."""
        link = addnodes.pending_xref("", refdomain="std", reftype="doc",
                                     reftarget=f"/chapters/{name}", refexplicit=False,
                                     refwarn=True, refdoc=self.env.docname)
        link += nodes.inline("", name, classes=["xref", "std", "std-doc"])
        return link


def _paragraph(text: str, style: str) -> nodes.paragraph:
    return nodes.paragraph("", text, classes=[style])


def _unlinked(title: str) -> list[nodes.Node]:
    return [nodes.Text(title + " "), nodes.inline("", TO_COME, classes=["taxonomy-tag"])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive; called by Sphinx."""
    app.add_directive("taxonomy-map", TaxonomyMap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
