"""Where the chapters derive, use or name the public names of the library, section by section.

A name is derived on its own page, the one that its module's docstring gives: where a cell defines a
function of that name, or uses the library's beside an `assert`. Else it is used where the code of a
cell leads to it, and named where inline code does. Its own page comes first, then the others in
reading order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jupytext
from docutils import nodes

LIBRARY = "lightvit_lab"
KINDS = ("derived", "used", "named")        # the first says most
FENCE = re.compile(r"^\s*(`{3,}|:{3,}|~{3,})")
HEADING = re.compile(r"^#{1,6} +(.+?) *$")
INLINE = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(?:\([^`]*\))?`(?!`)")
MARKUP = re.compile(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^>]*>)?`|[`*$]")


@dataclass(frozen=True)
class Section:
    """A section of a page, `<part>/<stem>`; what stands above all has no anchor."""

    page: str
    title: str
    anchor: str = ""


@dataclass(frozen=True)
class Mention:
    """A path of the library, met in a section: derived, used or named there."""

    path: str
    kind: str
    section: Section


@dataclass
class Reader:
    """Reads the cells of one page in turn.

    `known` are the paths of all public names, `own` those whose page this is; `aliases` is what the
    page's imports bind, as paths below the library.
    """

    page: str
    known: frozenset[str]
    own: frozenset[str] = frozenset()
    section: Section = field(init=False)
    aliases: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.section = Section(self.page, "")

    def text(self, source: str) -> Iterator[Mention]:
        """What inline code names, heading by heading."""
        fences: list[str] = []
        for line in source.splitlines():
            if fence := FENCE.match(line):
                _turn(fences, fence[1])
            elif (heading := HEADING.match(line)) and not fences:
                self.section = self._at(heading[1], line.startswith("# "))
            if not any(mark.startswith("`") for mark in fences):
                for found in INLINE.findall(line):
                    if path := self.path_of(found):
                        yield Mention(path, "named", self.section)

    def _at(self, heading: str, is_title: bool) -> Section:
        title = MARKUP.sub(lambda found: found[1] or "", heading)
        return Section(self.page, title, "" if is_title else nodes.make_id(title))

    def code(self, source: str) -> Iterator[Mention]:
        """What a cell derives or uses; what is imported is no use yet."""
        nodes_here = nodes_of(source)
        for node in nodes_here:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.aliases |= dict(bound(node))
        tested = any(isinstance(node, ast.Assert) for node in nodes_here)
        defined = {node.name for node in nodes_here
                   if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        for path in sorted(self.own):
            if path.rpartition(".")[2] in defined:
                yield Mention(path, "derived", self.section)
        for node in nodes_here:
            if path := self.path_of(dotted(node)):
                derived = tested and path in self.own
                yield Mention(path, "derived" if derived else "used", self.section)

    def reached(self, source: str) -> Iterator[str]:
        """Every path below the library that a cell's code leads to, known or not."""
        list(self.code(source))             # for what it imports
        for node in nodes_of(source):
            first, dot, rest = dotted(node).partition(".")
            if first in self.aliases:
                yield f"{self.aliases[first]}{dot}{rest}".lstrip(".")

    def path_of(self, written: str) -> str:
        """The path that a name leads to by the page's imports; "" where it is none of the known."""
        first, dot, rest = written.partition(".")
        path = self.aliases.get(first, "") + dot + rest if first in self.aliases else ""
        return path.lstrip(".") if path.lstrip(".") in self.known else ""


def _turn(fences: list[str], mark: str) -> None:
    """A fence closes the innermost one that is of its kind and not longer, else opens another."""
    if fences and fences[-1][0] == mark[0] and len(mark) >= len(fences[-1]):
        fences.pop()
    else:
        fences.append(mark)


def bound(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Each name that an import of the library binds, and its path below the library."""
    for one in node.names:
        whole = f"{node.module}.{one.name}" if isinstance(node, ast.ImportFrom) else one.name
        if whole.split(".")[0] == LIBRARY and not getattr(node, "level", 0):
            bare = isinstance(node, ast.Import) and one.asname is None
            yield one.asname or one.name.split(".")[0], "" if bare else whole.partition(".")[2]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of attributes of a name; "" for anything else."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


@cache
def cells(source: str) -> list[tuple[bool, str]]:
    """The cells of a page: whether each is code, and its text."""
    read = jupytext.reads(source, fmt="md:myst").cells
    return [(cell.cell_type == "code", cell.source) for cell in read]


@cache
def nodes_of(source: str) -> list[ast.AST]:
    """The parts of a cell's code; none of a cell that only a notebook can read."""
    try:
        return list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []


def mentions(page: str, source: str, known: Iterable[str], own: Iterable[str] = ()
             ) -> list[Mention]:
    """What a page, `<part>/<stem>`, says of the known paths, in the order of its text."""
    reader, found = Reader(page, frozenset(known), frozenset(own)), []
    for is_code, text in cells(source):
        found += (reader.code if is_code else reader.text)(text)
    return found


def reached(pages: Iterable[Path]) -> set[str]:
    """Every path below the library that code of these pages leads to, whatever it is."""
    found: set[str] = set()
    for page in pages:
        reader = Reader("", frozenset())
        for is_code, text in cells(page.read_text(encoding="utf-8")):
            found |= set(reader.reached(text)) if is_code else set()
    return found


def best(found: Iterable[Mention], home: str = "") -> Mention | None:
    """The mention that says most: on the page `home`, then by kind, then the first."""
    ranked = sorted(found, key=lambda one: (one.section.page != home, KINDS.index(one.kind)))
    return ranked[0] if ranked else None
