"""The boxes `{exercise}`, with the stub of its solution cell, and `{open-question}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import stubs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx_exercise.directive import ExerciseDirective

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import open_exercises

logger = logging.getLogger(__name__)


class StubbedExercise(ExerciseDirective):
    """sphinx-exercise's `{exercise}` with the stub below the prompt.

    Its label is the id that the solution cell gives to `check`.
    """

    def run(self) -> list[nodes.Node]:
        """The exercise box; a missing label or unusable solution cell is a warning at its line."""
        result = super().run()
        try:
            stub = self.stub()
        except (LabError, SyntaxError) as error:
            logger.warning("exercise %s: %s", self.options.get("label", "without label"), error,
                           location=self.get_location())
            return result
        if result:
            body = result[0][-1]
            # sphinx-exercise gives every box on a page the same id
            body["ids"] = [f"{self.options['label']}-text"]
            body += [nodes.paragraph("", "Start from this:", classes=["lab-stub-title"]),
                     nodes.literal_block(stub, stub, language="python", classes=["lab-stub"])]
        return result

    def stub(self) -> str:
        """The code this exercise starts from; raises LabError when the page gives none."""
        label = self.options.get("label")
        if not label:
            raise LabError("give it a :label:, the id that its solution cell hands to check()")
        page = Path(self.env.doc2path(self.env.docname))
        cells = stubs.solution_cells(page.read_text(encoding="utf-8"))
        if label not in cells:
            raise LabError(f'no code cell of this page calls check("{label}", ...)')
        return stubs.stub_of(cells[label])


class OpenQuestion(ExerciseDirective):
    """The same box, numbered with the exercises, for a question that no program judges."""

    def run(self) -> list[nodes.Node]:
        """The box; a label that the library does not declare as open is a warning at its line."""
        result = super().run()
        label = self.options.get("label")
        question = next((each for each in open_exercises() if each.id == label), None)
        if question is None:
            logger.warning("open question %s: declare it in OPEN of its page's file in "
                           "lightvit_lab/exercises", label or "without label",
                           location=self.get_location())
        elif result:
            body = result[0][-1]
            body["ids"] = [f"{label}-text"]
            text = (f"An open question, about {question.minutes} minutes: no program checks it. "
                    "Write down what you think.")
            body += nodes.paragraph("", text, classes=["lab-open-question"])
        return result


def hide_markers(app: Sphinx, doctree: nodes.document) -> None:
    """Take the marker lines out of the solutions on the page; the source keeps them for stubs."""
    for block in doctree.findall(nodes.literal_block):
        if stubs.BEGIN in block.rawsource:
            block.rawsource = stubs.without_markers(block.rawsource)
            block[:] = [nodes.Text(block.rawsource)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Put our box in the place of sphinx-exercise's; called by `lightvit_book`."""
    app.setup_extension("sphinx_exercise")
    app.add_directive("exercise", StubbedExercise, override=True)
    app.add_directive("open-question", OpenQuestion)
    app.connect("doctree-read", hide_markers)
    return {}
