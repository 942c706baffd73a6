"""Renamed pages: a small page at each old address in `_redirects.yml` leads to the new one."""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from html import escape
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

from lightvit_lab.errors import LabError

FILE = "_redirects.yml"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Moved: {title}</title>
<meta http-equiv="refresh" content="0; url={link}"><link rel="canonical" href="{link}">
<meta name="robots" content="noindex">
<script>location.replace("{page}" + location.search + (location.hash || "{anchor}"));</script>
</head><body><main><h1>This page has moved</h1>
<p>It is now called <a href="{link}">{title}</a>.</p></main></body></html>
"""


def read(path: Path) -> dict[str, str]:
    """Old and new addresses; empty without a file. Raises LabError if it holds anything else."""
    try:
        redirects = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except yaml.YAMLError as error:
        raise LabError(f"{path.name}: cannot be read ({error}); write old/address: new/address, a "
                       "line each") from error
    redirects = redirects or {}
    entries = [*redirects, *redirects.values()] if isinstance(redirects, dict) else [None]
    if not all(isinstance(entry, str) for entry in entries):
        raise LabError(f"{path.name}: expected one line each, old/address: new/address, got "
                       f"{redirects!r}")
    return redirects


def require_sound(redirects: dict[str, str], pages: Collection[str]) -> None:
    """Raise LabError on an old address that is a page or none, and a new one that is no page."""
    for old, new in redirects.items():
        target = new.partition("#")[0]
        if old in pages:
            raise LabError(f"{FILE}: {old} is a page, so it cannot lead elsewhere; take the line "
                           "out, or rename it")
        inside = not old.startswith(("/", ".")) and old == posixpath.normpath(old)
        if not inside or old.endswith((".html", ".md")):
            raise LabError(f"{FILE}: {old!r} is no address in the book; write it as in _toc.yml, "
                           "such as chapters/a/b")
        if target in redirects:
            raise LabError(f"{FILE}: {old} leads to {new}, which has moved itself; write {old}: "
                           f"{redirects[target]}")
        if target not in pages:
            known = ", ".join(sorted(pages))
            raise LabError(f"{FILE}: {old} leads to {new}, and there is no such page; known are "
                           f"{known}")


def html(old: str, new: str, title: str) -> str:
    """The page at the old address: leads on by itself, keeps the #heading, and has a link."""
    target, _, anchor = new.partition("#")
    page = posixpath.relpath(f"{target}.html", posixpath.dirname(old) or ".")
    anchor = f"#{anchor}" if anchor else ""
    values = {"page": page, "anchor": anchor, "link": page + anchor, "title": title}
    return PAGE.format(**{name: escape(text) for name, text in values.items()})


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Stop the build where a line of the map is wrong."""
    try:
        require_sound(read(Path(app.srcdir, FILE)), env.found_docs)
    except LabError as error:
        raise ConfigError(str(error)) from error


def write(app: Sphinx, exception: Exception | None) -> None:
    """Put a page at each old address."""
    if exception is not None or app.builder.format != "html":
        return
    for old, new in read(Path(app.srcdir, FILE)).items():
        path = Path(app.outdir, f"{old}.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html(old, new, app.env.titles[new.partition("#")[0]].astext()),
                        encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks; called by `lightvit_book`."""
    app.connect("env-updated", check)      # in every build, also where no page has changed
    app.connect("build-finished", write)
    return {}
