"""`{road}`: a section is core or further, with minutes; further ones are folded.

And the strip of a page's figures below its first paragraph, which `lab.js` fills.
"""

from __future__ import annotations

from html import escape
from typing import Any

import road
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lightvit_lab.errors import LabError

logger = logging.getLogger(__name__)
STRIP = '<nav class="lab-strip" aria-label="Figures of this page" hidden></nav>'


class Further(nodes.General, nodes.Element):
    """The content of a further section, folded under a sentence."""


class Mark(nodes.General, nodes.Element):
    """What a section says of itself, until the page is written."""


class Road(SphinxDirective):
    """`{road} core 6`, or `{road} further 4` with a sentence."""

    required_arguments, final_argument_whitespace, has_content = 1, True, True

    def run(self) -> list[nodes.Node]:
        """A mark with what is said; what cannot be read is a warning at its line."""
        sentence = " ".join(self.content)
        try:
            stretch = road.read(self.arguments[0], sentence, self.get_location())
        except LabError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        return [Mark(kind=stretch.kind, words=stretch.words, sentence=sentence)]


def pave(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fold what stands below the mark of a further section; say the minutes of a core one."""
    for mark in list(doctree.findall(Mark)):
        section = mark.parent
        place = section.index(mark)
        if mark["kind"] == "core":
            words = nodes.paragraph("", mark["words"], classes=["lab-road"])
            section[place] = words
        else:
            fold = Further(words=mark["words"], sentence=mark["sentence"])
            fold += section[place + 1:]
            section[place:] = [fold]
    if "kernelspec" in app.env.metadata[docname]:
        lay_strip(doctree)


def lay_strip(doctree: nodes.document) -> None:
    """A place for the strip of figures, behind the page's first paragraph."""
    first = next(iter(doctree.findall(nodes.paragraph)), None)
    if first is not None and first.parent is not None:
        first.parent.insert(first.parent.index(first) + 1, nodes.raw("", STRIP, format="html"))


def open_fold(writer: Any, node: Further) -> None:
    """The opening of a fold, with what it shows."""
    writer.body.append('<details class="lab-further"><summary><span class="lab-road">'
                       f'{escape(node["words"])}</span> {escape(node["sentence"])}</summary>')


def close_fold(writer: Any, node: Further) -> None:
    """The end of a fold."""
    writer.body.append("</details>")


def ignore(writer: Any, node: nodes.Node) -> None:
    """Nothing: other builders show all."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect; called by `lightvit_book`."""
    app.add_directive("road", Road)
    app.add_node(Further, html=(open_fold, close_fold),
                 **dict.fromkeys(("latex", "text"), (ignore, ignore)))
    app.add_node(Mark, html=(ignore, ignore))
    app.connect("doctree-resolved", pave, priority=950)
    return {}
