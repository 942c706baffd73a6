"""`{public-names}`: every public name of the library, room by room, and the section it is from.

And the role `{api}`, a link to a name there. The page is made of the tree in each build: the names
by `public_names`, the sections by `mentions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import lessons
import mentions
import public_names
from docutils import nodes
from mentions import Mention, Section
from public_names import Name
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

logger = logging.getLogger(__name__)

PAGE = "book/api"
VERBS = {"derived": "Derived in", "used": "First used in", "named": "Named in"}
NOWHERE = "No page uses it by name"
CODE = re.compile(r"`([^`]+)`")


class PublicNames(SphinxDirective):
    """A section for each room: what it is, and its names in a fold."""

    def run(self) -> list[nodes.Node]:
        """The sections, with an anchor for each name."""
        self.env.note_reread()
        root = Path(self.env.srcdir)
        places = found_in(root)
        self.givers = public_names.givers(places)
        links = self.env.metadata[self.env.docname].setdefault("api", set())
        return [self._room(room, list(names), places, links)
                for room, names in groupby(places, key=lambda one: one.room)]

    def _room(self, room: str, names: list[Name], places: dict[Name, Mention | None],
              links: set[tuple[str, str]]) -> nodes.section:
        section = nodes.section(ids=[f"room-{room}"], names=[f"room-{room}"])
        about = public_names.first_sentence(public_names.faces()[room].__doc__ or "")
        section += [nodes.title("", room), nodes.raw("", f"<p>{inline(about)}</p>", format="html")]
        section += addnodes.index(entries=list(map(index_entry, names)))
        lists = [f"<p><code>lightvit_lab.{face}</code></p><dl>{''.join(entries)}</dl>"
                 for face, entries in self._by_face(names, places, links)]
        counted = f"{len(names)} name{'s' * (len(names) != 1)}"
        fold = f'<details class="lab-api"><summary>{counted}</summary>{"".join(lists)}</details>'
        section += nodes.raw("", fold, format="html")
        return section

    def _by_face(self, names: list[Name], places: dict[Name, Mention | None],
                 links: set[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
        for face, group in groupby(names, key=lambda one: one.face):
            yield face, [self._entry(one, places[one], links) for one in group]

    def _entry(self, name: Name, place: Mention | None, links: set[tuple[str, str]]) -> str:
        others = [path for path in name.paths if path != name.path]
        also = f" Also {', '.join(f'<code>{path}</code>' for path in others)}." if others else ""
        where = self._where(name, place, links)
        return (f'<div id="{name.anchor}"><dt><code>{escape(name.signature)}</code></dt>'
                f"<dd>{inline(name.sentence)}{also} {where}</dd></div>")

    def _where(self, name: Name, place: Mention | None, links: set[tuple[str, str]]) -> str:
        """The section that it is from, or that there is none and what to look at instead."""
        home = Path(self.env.srcdir, "chapters", f"{name.home or '-'}.md")
        if place or home.is_file():
            section = place.section if place else Section(name.home, "")
            links.add((f"chapters/{section.page}", section.anchor))
            link = self._link(section)
            return f"{VERBS[place.kind]} {link}." if place else f"{NOWHERE}; it is part of {link}."
        giver = self.givers.get((name.room, name.name))
        if giver:
            link = f'<a href="#{giver.anchor}"><code>{giver.name}</code></a>'
            return f"{NOWHERE}; {link} returns it."
        return f"{NOWHERE}."

    def _link(self, section: Section) -> str:
        docname = f"chapters/{section.page}"
        address = self.env.app.builder.get_relative_uri(self.env.docname, docname)
        anchor = f"#{section.anchor}" if section.anchor else ""
        title = lessons.read(Path(self.env.srcdir, f"{docname}.md")).title
        words = escape(title) + (f", <em>{escape(section.title)}</em>" if anchor else "")
        return f'<a href="{address}{anchor}">{words}</a>'


class Api(SphinxRole):
    """`` {api}`token_merging.merge_tokens` ``: a link to a public name, by the end of its path."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The name as code, linked; a name that is not public, or is two, is an error."""
        found = [one for one in found_in(Path(self.env.srcdir)) if leads_to(self.text, one)]
        if len(found) != 1:
            known = ", ".join(one.path for one in found) or "none of the public names"
            text = f"api: {self.text!r} is {known}; give the end of one path"
            return [], [self.inliner.reporter.error(text, line=self.lineno)]
        address = self.env.app.builder.get_relative_uri(self.env.docname, PAGE)
        link = nodes.reference("", "", nodes.literal("", self.text), internal=True,
                               refuri=f"{address}#{found[0].anchor}")
        return [link], []


def leads_to(text: str, name: Name) -> bool:
    """Whether a name has a path that ends in `text`."""
    return any(f".{path}".endswith(f".{text}") for path in name.paths)


@cache
def found_in(root: Path) -> dict[Name, Mention | None]:
    """Each public name, in the page's order, and the mention that says most of it; None: none."""
    pages = lessons.in_reading_order(root)
    names = public_names.public(mentions.reached(pages))
    return dict(zip(names, first_mentions(names, pages)))


def first_mentions(names: list[Name], pages: list[Path]) -> list[Mention | None]:
    """For each name the mention that says most, on pages in reading order."""
    owners = {path: one for one in names for path in one.paths}
    found: dict[Name, list[Mention]] = {one: [] for one in names}
    for page in pages:
        stem = "/".join(page.with_suffix("").parts[-2:])
        own = [path for path, one in owners.items() if one.home == stem]
        for one in mentions.mentions(stem, page.read_text(encoding="utf-8"), owners, own):
            found[owners[one.path]].append(one)
    return [mentions.best(found[one], one.home) for one in names]


def index_entry(name: Name) -> tuple[str, str, str, str, None]:
    """For the search: only what is no word of the language too may come before the chapters."""
    return ("single", name.name, name.anchor, "main" if "_" in name.name else "", None)


def inline(text: str) -> str:
    """A sentence of a docstring as HTML: its code in backticks."""
    return CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def check_links(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of a link to a section that its page does not have."""
    for docname, anchor in sorted(env.metadata.get(PAGE, {}).get("api", ())):
        links = env.tocs[docname].findall(nodes.reference) if docname in env.tocs else ()
        if f"#{anchor}".rstrip("#") not in [link["anchorname"] for link in links]:
            logger.warning("public-names: %s has no section %r", docname, anchor, location=PAGE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add directive and role; called by `lightvit_book`."""
    app.add_directive("public-names", PublicNames)
    app.add_role("api", Api())
    app.connect("env-check-consistency", check_links)
    return {}
