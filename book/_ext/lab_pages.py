"""Per page: the scripts it loads, the buttons of its header, the notebook to download."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from lightvit_lab.errors import LabError

logger = logging.getLogger(__name__)


def committed_notebook(app: Sphinx, docname: str) -> Path | None:
    """The derived notebook of a page, which Colab opens; None where it has none."""
    path = Path(app.env.doc2path(docname)).with_suffix(".ipynb")
    return path if path.exists() else None


def is_executed(env: BuildEnvironment, docname: str) -> bool:
    """Whether a page is a notebook, that is, has a kernel in its front matter."""
    return "kernelspec" in env.metadata[docname]


def record_notebook(app: Sphinx, doctree: nodes.document) -> None:
    """Remember whether a page had its notebook when it was read."""
    name = app.env.docname
    app.env.metadata[name]["notebook_beside"] = committed_notebook(app, name) is not None


def pages_to_reread(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str],
                    removed: set[str]) -> list[str]:
    """The pages whose notebook came or went since they were read: their buttons change."""
    def differs(docname: str) -> bool:
        before = env.metadata[docname].get("notebook_beside")
        return before not in (None, committed_notebook(app, docname) is not None)

    return [docname for docname in env.metadata if docname not in removed and differs(docname)]


def choose_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any],
                   doctree: nodes.document | None) -> None:
    """Load plotly.js (5 MB) on pages with a figure only, and never Thebe, which is not used.

    The page only says where it is, in a script that no browser runs: `plots.js` fetches it once the
    page has been painted.
    """
    if 'class="lab-plot"' in context.get("body", ""):
        app.add_js_file("../vendor/plotly.min.js", priority=100, type="text/plain", id="lab-plotly")
    context["script_files"][:] = [script for script in context["script_files"]
                                  if "thebe" not in str(script).lower()]


def mend_lists(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any],
               doctree: nodes.document | None) -> None:
    """Drop the role of the list of references, whose entries are no list items in docutils."""
    if "body" in context:
        context["body"] = context["body"].replace('role="list" class="citation-list"',
                                                  'class="citation-list"')


def choose_buttons(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any],
                   doctree: nodes.document | None) -> None:
    """Offer Colab only where its notebook exists, and never a download that shows the solutions."""
    if pagename not in app.env.found_docs:
        return
    unwanted = set()
    if is_executed(app.env, pagename):
        unwanted.add("download-source-button")
        if not committed_notebook(app, pagename):
            unwanted |= {"launch-buttons", "download-notebook-button"}
    context["header_buttons"][:] = _without(context["header_buttons"], unwanted)


def _without(buttons: list[dict[str, Any]], unwanted: set[str]) -> list[dict[str, Any]]:
    """The theme's buttons and button groups, less those with an unwanted label."""
    remaining = [button for button in buttons if button.get("label") not in unwanted]
    return [{**button, "buttons": _without(button["buttons"], unwanted)}
            if "buttons" in button else button for button in remaining]


def derive_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Offer the derived notebooks, with stubs, for download instead of the executed ones."""
    if exception is not None or app.builder.name != "html":
        return
    import notebooks  # here, since it is needed only once everything else went well

    sources, ref = Path(app.outdir, "_sources"), commit(Path(app.srcdir)) or "main"
    for docname in sorted(filter(lambda name: is_executed(app.env, name), app.env.found_docs)):
        for suffix in (".md", ".ipynb"):
            (sources / docname).with_suffix(suffix).unlink(missing_ok=True)
        if committed_notebook(app, docname):
            try:
                derived = notebooks.derive(Path(app.env.doc2path(docname)), ref=ref)
                nbformat.write(derived, (sources / docname).with_suffix(".ipynb"))
            except LabError as error:   # no raise: it would keep other extensions from finishing
                logger.warning("no notebook can be derived: %s", error)


def commit(root: Path) -> str | None:
    """The commit that the checkout at `root` stands at; None outside a repository."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True,
                                text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks; called by `lightvit_book`."""
    app.connect("doctree-read", record_notebook)
    app.connect("env-get-outdated", pages_to_reread)
    app.connect("html-page-context", choose_scripts, priority=600)   # after everybody who adds some
    app.connect("html-page-context", mend_lists)
    app.connect("html-page-context", choose_buttons, priority=600)   # after the theme's, at 501
    app.connect("build-finished", derive_notebooks, priority=800)
    return {}
