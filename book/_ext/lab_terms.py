"""Words of the glossary on other pages: `{term}` links to its entry, and carries what it says.

The link's title is the entry itself, so a mouse shows it everywhere; `lab.js` makes a card of it,
which opens by keyboard and touch too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "book/glossary"
ENTRY = re.compile(r"^(?P<term>\S.*)\n(?P<text>(?:[ \t]+\S.*\n?)+)", re.MULTILINE)
MARKUP = re.compile(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^>]*>)?`|\[([^\]]*)\]\([^)]*\)|[`*$]")


@cache
def entries(file: Path) -> dict[str, str]:
    """Anchor of each entry of the glossary -> what it says, in plain words."""
    text = file.read_text(encoding="utf-8")
    inside = re.search(r"^```\{glossary\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = ENTRY.finditer(inside[1]) if inside else ()
    return {anchor(entry["term"]): plain(entry["text"]) for entry in found}


def anchor(term: str) -> str:
    """The id that Sphinx gives an entry."""
    return nodes.make_id(f"term-{term}")


def plain(text: str) -> str:
    """An entry without markup, in one line."""
    words = MARKUP.sub(lambda found: found[1] or found[2] or "", text)
    return " ".join(words.split())


def add_titles(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give each link to an entry what the entry says."""
    if docname == GLOSSARY or GLOSSARY not in app.env.found_docs:
        return
    meanings = entries(Path(app.env.doc2path(GLOSSARY)))
    for link in doctree.findall(nodes.reference):
        _, _, target = link.get("refuri", "").partition("#")
        if target.lower() in meanings:
            link["reftitle"] = meanings[target.lower()]
            link["classes"].append("lab-term")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect; called by `lightvit_book`."""
    app.connect("doctree-resolved", add_titles, priority=900)
    return {}
