"""`{diagram} name`: a drawing of the book, in the page itself, whose colours follow the theme.

It needs no script, and printing takes it along.
"""

from __future__ import annotations

from typing import Any

import diagrams
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lightvit_lab.errors import LabError

logger = logging.getLogger(__name__)


class Diagram(SphinxDirective):
    """`{diagram} token_merging`, with its caption as content."""

    required_arguments, has_content = 1, True

    def run(self) -> list[nodes.Node]:
        """A figure around the SVG; what cannot be read is a warning at its line."""
        caption = "\n".join(self.content)
        try:
            drawn = diagrams.read(self.arguments[0], caption, self.get_location())
        except LabError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        self.env.note_dependency(str(drawn.path))
        figure = nodes.figure("", nodes.raw("", drawn.svg, format="html"), classes=["lab-drawing"])
        words, messages = self.state.inline_text(caption, self.lineno)
        # a caption would be numbered, which no other figure of the book is
        figure += nodes.legend("", nodes.paragraph(caption, "", *words))
        return [figure, *messages]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive; called by `lightvit_book`."""
    app.add_directive("diagram", Diagram)
    return {}
