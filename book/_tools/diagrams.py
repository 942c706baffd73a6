"""The drawings of the book, `book/_static/diagrams/<name>.svg`, read for the page and the notebook.

In a page `{diagram} name` puts one in, its caption below.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from lightvit_lab.errors import LabError, require_choice

FOLDER = Path(__file__).resolve().parents[1] / "_static" / "diagrams"
SVG = "{http://www.w3.org/2000/svg}"


class Diagram(NamedTuple):
    """One drawing: its file, its text, and what it says in words."""

    path: Path
    svg: str
    title: str
    description: str

    @property
    def alt(self) -> str:
        """Title and description, for who cannot see it."""
        return f"{self.title}. {self.description}"


def read(name: str, caption: str, place: str) -> Diagram:
    """The drawing of this name. Raises LabError, naming `place`, on another name, or no caption."""
    require_choice(place, "diagram", name, sorted(file.stem for file in FOLDER.glob("*.svg")))
    if not caption.strip():
        raise LabError(f"{place}: the diagram {name!r} has no caption; say below its first line "
                       "what to see in it")
    path = FOLDER / f"{name}.svg"
    svg = path.read_text(encoding="utf-8")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise LabError(f"{place}: {path} is no SVG: {error}") from error
    title, description = (" ".join((root.findtext(SVG + tag) or "").split())
                          for tag in ("title", "desc"))
    return Diagram(path, svg, title, description)
