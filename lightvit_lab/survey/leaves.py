"""The surveys' taxonomy as data: every leaf, the page that teaches it, and its methods.

The tree is that of "Image Recognition with Online Lightweight Vision Transformer: A Survey" (arXiv
2505.03113), as its authors' overview figure draws it; the offline techniques are those of arXiv
2309.02031 and 2404.10407. Facts only: each method has its source, and one whose leaf no source
states stays at its group (`unplaced`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Method:
    """A published method as the surveys list it.

    `placement` says how sure its place in the tree is: "stated" by a source, read from its "title",
    "inferred" by us from what the method does, or "group" where the source names the group and no
    leaf.
    """

    name: str
    arxiv: str                      # "2103.14899"; empty where no identifier is known
    timm_models: tuple[str, ...]    # names for timm.create_model; empty where timm has none
    placement: str
    note: str
    source: str                     # the document that names the method


@dataclass(frozen=True)
class Leaf:
    """One leaf of the taxonomy, the stem of the page that teaches it, and who lists it."""

    branch: str
    group: str
    leaf: str
    page: str
    methods: tuple[Method, ...]
    sources: tuple[str, ...]        # arXiv identifiers


def taxonomy() -> list[Leaf]:
    """Every leaf in the survey's order, each with the methods that stand under it, if any."""
    return [Leaf(*_place(row), row["page"], _methods(_place(row)), tuple(row["sources"].split()))
            for row in read_rows("taxonomy.csv")]


def unplaced() -> dict[str, tuple[Method, ...]]:
    """Methods of which a source states only the group or the branch, by the name of that."""
    places = [_place(row) for row in read_rows("methods.csv") if not row["leaf"]]
    return {group or branch: _methods((branch, group, leaf)) for branch, group, leaf in places}


def _place(row: dict[str, str]) -> tuple[str, str, str]:
    return row["branch"], row["group"], row["leaf"]


def _methods(place: tuple[str, str, str]) -> tuple[Method, ...]:
    """The methods of one branch, group and leaf."""
    return tuple(Method(row["method"], row["arxiv"], tuple(row["timm_models"].split()),
                        row["placement"], row["note"], row["source"])
                 for row in read_rows("methods.csv") if _place(row) == place)


@cache
def read_rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a table beside this file."""
    with resources.files(__package__).joinpath(name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
