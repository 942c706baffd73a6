"""The control at the end of a page, "Was something unclear?": feedback without an account.

This file gives it what a script cannot know: the page, the commit, the version, and an address for
mail if pyproject.toml names one. `feedback.js` makes the control; without scripts it is a sentence.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path
from typing import Any

import lab_pages
from docutils import nodes
from sphinx.application import Sphinx

SENTENCE = ("Was something unclear? Write to the person who gave you this book{mail}, or use the "
            "button <em>Open issue</em> at the top of the page. Say which page and which section "
            "you mean.")


def mail(project: dict[str, Any]) -> str:
    """The first address of the project's authors and maintainers; "" where they name none."""
    people = [*project.get("authors", ()), *project.get("maintainers", ())]
    return next((one["email"] for one in people if one.get("email")), "")


def control(docname: str, project: dict[str, Any], commit: str, sections: bool) -> str:
    """The markup; where `sections`, the script asks at the end of each section too."""
    address = mail(project)
    data = {"page": f"{docname}.html", "version": project["version"], "commit": commit,
            "mail": address, "sections": "yes" if sections else ""}
    said = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items() if value)
    link = f' or to <a href="mailto:{escape(address)}">{escape(address)}</a>' if address else ""
    return (f'<aside class="lab-feedback" aria-label="Feedback"{said}>'
            f"<p>{SENTENCE.format(mail=link)}</p></aside>")


def add_control(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any],
                doctree: nodes.document | None) -> None:
    """Put the control at the end of every page of the book."""
    if pagename in app.env.found_docs and "body" in context:
        text = Path(app.srcdir, "pyproject.toml").read_text(encoding="utf-8")
        commit = lab_pages.commit(Path(app.srcdir)) or "unknown"
        context["body"] += control(pagename, tomllib.loads(text)["project"], commit[:12],
                                   lab_pages.is_executed(app.env, pagename))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect; called by `lightvit_book`."""
    app.connect("html-page-context", add_control)
    return {}
