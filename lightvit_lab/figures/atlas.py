"""An `Atlas`: maps of some pictures by method, block, head and query token.

Rows, columns, blocks and heads count from 0, as the tensors do. `gather.atlas` makes one and checks
what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..errors import require_choice
from .overlay import Box, box_of, format_times, format_value, limits

# what a value is compared with, in words
SHARES = {"fair": "a fair share", "mean": "the mean patch"}


class Maps(NamedTuple):
    """What one method says of all pictures.

    `kind` is "heads", "flow" or "grid"; a grid has one query, the picture.
    """

    kind: str
    # (pictures, blocks, heads, queries, h, w): patches, or pixels of a grid as fine as the picture
    values: Tensor
    prefix: Tensor     # (pictures, blocks, heads, queries, tokens in front of the patches)
    share: str         # of SHARES, or "" where values lie below zero and are compared with nothing


class Place(NamedTuple):
    """Where to look a map up in an `Atlas`.

    `head` None is the mean of all heads; `query` is the token that attends, those in front of the
    patches counted first.
    """

    picture: int
    method: str
    block: int = 0
    head: int | None = None
    query: int = 0


class TokenMap(NamedTuple):
    """One map: as drawn, by patch, for tokens in front, and the share to compare with (0: none)."""

    cells: Tensor      # (h, w)
    patches: Tensor    # (rows, columns)
    prefix: Tensor     # (tokens in front,)
    share: float


@dataclass(frozen=True)
class Atlas:
    """Pictures (P, 3, H, W) in [0, 1] with captions, and by name the maps of each method."""

    images: Tensor
    captions: tuple[str, ...]
    methods: dict[str, Maps]
    prefix: int
    grid: tuple[int, int]

    def start(self) -> Place:
        """The first picture and method, last block, mean of heads; class token or middle patch."""
        rows, columns = self.grid
        middle = 0 if self.prefix else rows // 2 * columns + columns // 2
        method, maps = next(iter(self.methods.items()))
        return Place(0, method, maps.values.shape[1] - 1, None, middle)

    def lookup(self, place: Place) -> TokenMap:
        """The map at `place`. Block, head and query are passed over where a method has none."""
        require_choice("Atlas.lookup", "method", place.method, self.methods)
        maps = self.methods[place.method]
        block, heads, query = 0, slice(None), 0
        if maps.kind != "grid":
            query = place.query
        if maps.kind == "heads":
            block = place.block
            heads = slice(None) if place.head is None else slice(place.head, place.head + 1)
        cells, prefix = (part[place.picture, block, heads, query].mean(dim=0)
                         for part in (maps.values, maps.prefix))
        patches = F.adaptive_avg_pool2d(cells[None], self.grid)[0]
        tokens = self.prefix + self.grid[0] * self.grid[1]
        shares = {"fair": 1 / tokens, "mean": patches.mean().item(), "": 0.0}
        return TokenMap(cells, patches, prefix, shares[maps.share])

    def frame(self, place: Place) -> Box | None:
        """Left, top, right and bottom of the looking patch in pixels; None where no patch looks."""
        if place.query < self.prefix:
            return None
        here = divmod(place.query - self.prefix, self.grid[1])
        return box_of((*here, *here), self.grid, self.images)

    def describe(self, place: Place) -> str:
        """The map at `place` in words and numbers; `explorer.js` says the same in the browser."""
        found, maps = self.lookup(place), self.methods[place.method]
        best, here = int(found.patches.argmax()), place.query - self.prefix
        most = f"{self.patch(best)}: {self.amount(place, best)}"
        if maps.kind == "grid":
            rest = f" Here, at {self.patch(here)}: {self.amount(place, here)}." if here >= 0 else ""
            return f"{place.method} is highest at {most}.{rest}"
        heads = "mean of heads" if place.head is None else f"head {place.head}"
        where = f", block {place.block}, {heads}" if maps.kind == "heads" else ""
        verb = "looks most at" if maps.kind == "heads" else "rests most on"
        sentence = f"{place.method}{where}: {self.token(place.query)} {verb} {most}."
        if not self.prefix:
            return sentence
        first = found.prefix[0].item()
        amount = format_value(first, max(first, limits(found.patches)[1]))
        return f"{sentence} The class token gets {amount}."

    def amount(self, place: Place, patch: int) -> str:
        """The value of one patch in the map at `place`, also as a multiple of the share."""
        found, share = self.lookup(place), self.methods[place.method].share
        value = found.patches.flatten()[patch].item()
        text = format_value(value, limits(found.patches)[1])
        if found.share <= 0:
            return text
        return f"{text}, {format_times(value / found.share)} times {SHARES[share]}"

    def ends(self, place: Place) -> tuple[str, str, str]:
        """The texts under the colour bar: low end, middle, and high end with its multiple."""
        found, share = self.lookup(place), self.methods[place.method].share
        low, high = limits(found.cells)
        times = f" ({format_times(high / found.share)} x {share})" if found.share > 0 else ""
        texts = [format_value(value, high) for value in (low, (low + high) / 2, high)]
        return texts[0], texts[1], texts[2] + times

    def token(self, query: int) -> str:
        """The name of a token: the class token is the first of those in front."""
        if query >= self.prefix:
            return f"the patch at {self.patch(query - self.prefix)}"
        return "the class token" if query == 0 else f"extra token {query}"

    def patch(self, index: int) -> str:
        """The place of a patch in words."""
        return "row {}, column {}".format(*divmod(index, self.grid[1]))
