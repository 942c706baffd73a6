"""The road through a page: which sections are core, which further, and minutes for each.

`:::{road} core 6` under a heading; `:::{road} further 4` with a sentence that says what the
section shows. Read here for the page and for the notebook.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lightvit_lab.errors import LabError

KINDS = ("core", "further")
LINE = re.compile(r"^## (?P<title>.+?) *\n+:::+\{road\} *(?P<kind>core|further) +(?P<minutes>\d+)"
                  r" *$", re.MULTILINE)


class Stretch(NamedTuple):
    """One section's part of the road."""

    kind: str
    minutes: int

    @property
    def words(self) -> str:
        """As a reader sees it: Core, 6 minutes."""
        return f"{self.kind.capitalize()}, {self.minutes} minute{'s' * (self.minutes != 1)}"


def read(argument: str, sentence: str, place: str) -> Stretch:
    """What a directive says. Raises LabError, naming its place, on another kind or form."""
    found = re.fullmatch(r"(core|further) +([1-9]\d*)", argument.strip())
    if not found:
        raise LabError(f"{place}: road {argument!r}; give `core` or `further`, and minutes: "
                       "`:::{road} core 6`")
    if (found[1] == "further") != bool(sentence.strip()):
        raise LabError(f"{place}: road {argument!r} with the sentence {sentence.strip()!r}; a "
                       "further section, which is folded, needs one that says what it shows, a "
                       "core section has none")
    return Stretch(found[1], int(found[2]))


def stretches(page: str) -> dict[str, Stretch]:
    """Title of each section of a page's text that says it -> its part of the road."""
    return {found["title"]: Stretch(found["kind"], int(found["minutes"]))
            for found in LINE.finditer(page)}


def minutes(page: str) -> tuple[int, int]:
    """Minutes of a page's core sections, and of its further ones."""
    sums = dict.fromkeys(KINDS, 0)
    for one in stretches(page).values():
        sums[one.kind] += one.minutes
    return sums["core"], sums["further"]
