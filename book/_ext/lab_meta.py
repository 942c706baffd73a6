"""What a page says of itself in its head: a description, and what a shared link shows of it.

The description of a page is its first paragraph, which in a chapter is its question. A shared link
shows it with the page's title and the picture that book/_tools/first_look.py draws. Programs that
show links want the picture's whole address: `html: baseurl:` in _config.yml says where the book is
published; as long as it says nothing, the address is relative.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

IMAGE = "_static/preview.jpg"
SIZE = (1200, 630)
IMAGE_ALT = ("The same picture three times, cut into patches: all of them, a quarter of them, and "
             "a few. Below each, how much work a model does and how often it is right.")
LONGEST = 300           # letters of a description; programs that show links cut it near there
VIEWPORT = re.compile(r'\s*<meta name="viewport"[^>]*>')


def description(doctree: nodes.document | None, otherwise: str) -> str:
    """The first paragraph of a page without markup; `otherwise` where it has none.

    A long one is cut after a sentence, or at a word. Boxes, tables and lists are not asked.
    """
    sections = [] if doctree is None else [doctree, *doctree.findall(nodes.section)]
    for section in sections:
        for child in section.children:
            if isinstance(child, nodes.paragraph) and child.astext().strip():
                return shortened(" ".join(child.astext().split()))
    return otherwise


def shortened(text: str) -> str:
    """The sentences of a text that fit, or as many words."""
    if len(text) <= LONGEST:
        return text
    whole = re.match(r".*[.?!](?= )", text[:LONGEST + 1])
    return whole[0] if whole else textwrap.shorten(text, LONGEST, placeholder=" …")


def tags(title: str, about: str, site: str, image: str, address: str = "") -> str:
    """The meta elements of a page; `image` is the picture's address, `address` its own, if any."""
    said = {"og:type": "article", "og:site_name": site, "og:title": title, "og:description": about,
            "og:url": address, "og:image": image, "og:image:width": str(SIZE[0]),
            "og:image:height": str(SIZE[1]), "og:image:alt": IMAGE_ALT}
    named = {"description": about, "twitter:card": "summary_large_image"}
    return "".join(f'\n    <meta {kind}="{key}" content="{escape(value)}" />'
                   for kind, every in (("name", named), ("property", said))
                   for key, value in every.items() if value)


def add_tags(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any],
             doctree: nodes.document | None) -> None:
    """Put the elements into the page's head."""
    base = str(app.config.html_baseurl or "").rstrip("/")
    image = f"{base}/{IMAGE}" if base else context["pathto"](IMAGE, 1)
    address = f"{base}/{pagename}.html" if base else ""
    site = app.config.html_title
    title = unescape(re.sub(r"<[^>]+>", "", str(context.get("title", "")))) or site
    about = description(doctree, summary(Path(app.srcdir)))
    context["metatags"] = context.get("metatags", "") + tags(title, about, site, image, address)


def summary(root: Path) -> str:
    """What pyproject.toml says the book is, for pages without a text of their own."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["description"]


def with_one_viewport(page: str) -> str:
    """A page whose head says once how wide a phone shows it: Sphinx and themes say it each."""
    head, end, rest = page.partition("</head>")
    first = VIEWPORT.search(head)
    if not first:
        return page
    return head[:first.end()] + VIEWPORT.sub("", head[first.end():]) + end + rest


def tidy_heads(app: Sphinx, exception: Exception | None) -> None:
    """Leave one viewport element on each page that was written."""
    if exception is not None or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        tidied = with_one_viewport(page)
        if tidied != page:
            path.write_text(tidied, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect; called by `lightvit_book`."""
    app.connect("html-page-context", add_tags)
    app.connect("build-finished", tidy_heads)
    return {}
