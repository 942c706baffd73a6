"""Tables: `{lab-status}` of this build, `{stored-results}` of the runs, `{lab-zoo}` of the zoo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cache_key
import lab_pages
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lightvit_lab import runtime
from lightvit_lab.checkpoint import zoo
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import results

logger = logging.getLogger(__name__)

# listed after the packages that a page's numbers depend on
BUILDERS = ("jupyter-book", "sphinx", "myst-nb")
SIGNS = {"\u2705": "ran", "\u274c": "failed"}     # as nb-exec-table writes them


class TableDirective(SphinxDirective):
    """A directive that draws one table and whose page is written anew in every build."""

    header: Sequence[str]

    def rows(self) -> Iterable[Sequence[str]]:
        """The table's rows, in Markdown."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """The table, parsed from Markdown so that cells may hold links."""
        self.env.metadata[self.env.docname]["lab_status"] = True
        lines = [_row(self.header), _row(["---"] * len(self.header)), *map(_row, self.rows())]
        container = nodes.container(classes=["lab-table"])
        source = StringList(lines, self.env.doc2path(self.env.docname))
        self.state.nested_parse(source, 0, container)
        return [container]


class LabStatus(TableDirective):
    """Device, versions, date and commit of this build."""

    header = ("What", "This build")

    def rows(self) -> Iterable[Sequence[str]]:
        """One fact a row."""
        yield "Device", runtime.device_name()
        yield "Date", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        yield "Commit", f"`{(lab_pages.commit(Path(self.env.srcdir)) or 'unknown')[:12]}`"
        yield from cache_key.installed_versions((*cache_key.PACKAGES, *BUILDERS)).items()


class StoredResults(TableDirective):
    """Every stored run, with what is needed to repeat it."""

    header = ("Experiment and command", "Device", "Date", "Seeds", "Seconds", "Commit")

    def rows(self) -> Iterable[Sequence[str]]:
        """One stored run a row; an unreadable one is a warning that names its file."""
        for name in results.names():
            try:
                run = results.load(name)
            except LabError as error:
                logger.warning("stored result: %s", error, location=self.get_location())
                continue
            told = (f"{{download}}`{name} </book/results/{name}.json>`", results.about(name),
                    f"`{run.command}`")
            yield (" <br>".join(filter(None, told)), run.device, run.date[:10],
                   ", ".join(map(str, run.seeds)), f"{run.seconds:.0f}", f"`{run.commit[:8]}`")


class Zoo(TableDirective):
    """The card of every model of the zoo, a row each."""

    header = ("Model and command", "Parameters", "Test accuracy (95 % interval)", "Seed", "Seconds",
              "Device", "Date", "Commit")

    def rows(self) -> Iterable[Sequence[str]]:
        """One model a row, in alphabetical order."""
        for name in zoo.names():
            card = zoo.card(name)
            test = {key: f"{100 * card['test'][key]:.1f}" for key in ("accuracy", "low", "high")}
            file = f"/book/zoo/{name.replace('/', '-')}.json"
            yield (f"{{download}}`{name} <{file}>` <br>`{card['command']}`",
                   f"{card['params']:,}",
                   f"{test['accuracy']} % ({test['low']} to {test['high']})",
                   str(card["seed"]), f"{card['seconds']:.0f}", card["device"],
                   card["date"][:10], f"`{card['commit'][:8]}`")


def _row(cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def always_outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str],
                    removed: set[str]) -> list[str]:
    """The pages with a table of this build, which no earlier build can have written."""
    return [docname for docname, metadata in env.metadata.items()
            if metadata.get("lab_status") and docname not in removed]


def in_words(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put words in the place of signs, which many fonts lack, in the table of pages."""
    if app.env.metadata[docname].get("lab_status"):
        for text in list(doctree.findall(nodes.Text)):
            if text in SIGNS:
                text.parent.replace(text, nodes.Text(SIGNS[text]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives; called by `lightvit_book`."""
    app.add_directive("lab-status", LabStatus)
    app.add_directive("stored-results", StoredResults)
    app.add_directive("lab-zoo", Zoo)
    app.connect("env-get-outdated", always_outdated)
    app.connect("doctree-resolved", in_words)
    return {}
