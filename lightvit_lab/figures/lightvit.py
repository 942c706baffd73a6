"""LightViT's attention as a film: a window, a global token that gathers, and hands back."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import torch
from torch import Tensor

from ..components import sort_into_windows
from ..errors import LabError, plain_numbers, require_grid, require_images, require_whole
from .card import Card
from .film import State, film
from .overlay import Box, box_of, format_value, highest, limits, scale_bar, side_by_side

__all__ = ["windows_and_global_tokens"]

_SHAPES = {"window": "(windows, heads, area, area)", "aggregation": "(heads, T, N)",
           "broadcast": "(heads, N, T)"}


class Weights(NamedTuple):
    """Of one place, maps over all places (rows, columns): the three steps, and both last ones."""

    window: Tensor          # what the place takes from its window; 0 elsewhere
    gathered: Tensor        # what one global token takes from each place
    handed: Tensor          # how much of that token each place takes
    through: Tensor         # what the place takes from each place through all global tokens
    inside: Tensor          # whether a place lies in the window, as bools
    token: int              # the global token, of which the place takes most


@plain_numbers
def windows_and_global_tokens(image: Tensor, maps: Mapping[str, Tensor], place: tuple[int, int],
                              window: tuple[int, int] | None = None,
                              grid: tuple[int, int] | None = None) -> Card:
    """What one place of a picture takes from the others: by its window, and by global tokens.

    A film of four states: the window of `place` (row, column); the global token of which the place
    takes most, gathering; the same handed back to all places; both steps by all global tokens.
    `image` is (3, H, W) in [0, 1]; `maps` are those of one block for this picture, "window",
    "aggregation" and "broadcast", as in `{name: part[0] for name, part in blocks[0].items()}` of
    `record_attention`. Heads are averaged, so the last state is of weights alone, as rollout is.
    `window` and `grid` are (rows, columns), None for squares. Raises LabError on maps that do not
    fit each other or the grid, and on a place outside.
    """
    require_images("windows_and_global_tokens", image[None], channels=3)
    grid = _require_maps(maps, grid)
    place = _require_place(place, grid)
    found = _weights(maps, place[0] * grid[1] + place[1], grid, window)
    drawings, captions = _drawings(image, found, place), _captions(found, place)
    labels = ("its window", f"token {found.token} gathers", f"token {found.token} hands back",
              "both steps")
    return film([*map(State, labels, drawings, captions)],
                "What one place takes from the others: by its window, and by global tokens", "step",
                f"Of what the global tokens hand this place, {_outside(found.through, found):.0%} "
                "comes from outside its window, where "
                f"{1 - found.inside.float().mean():.0%} of all places lie.", 1,
                table=_table(found, labels))


def _require_maps(maps: Mapping[str, Tensor], grid: tuple[int, int] | None) -> tuple[int, int]:
    """The grid of places. Raises LabError unless the three maps are there and fit each other."""
    for name, expected in _SHAPES.items():
        part = maps.get(name)
        if not isinstance(part, Tensor) or part.ndim != expected.count(",") + 1:
            given = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise LabError(f"windows_and_global_tokens: {name} is {given}; give {expected} of one "
                           "picture, {name: part[0] for name, part in blocks[0].items()} of what "
                           "record_attention gives for LightViT")
        if not part.isfinite().all():
            raise LabError(f"windows_and_global_tokens: {name} has values that are no finite "
                           "numbers; maps.isfinite().all() finds where they come from")
    (tokens, places), back = maps["aggregation"].shape[1:], tuple(maps["broadcast"].shape[1:])
    if back != (places, tokens):
        raise LabError(f"windows_and_global_tokens: aggregation is of {tokens} tokens and {places} "
                       f"places, broadcast of {back[1]} and {back[0]}; give both of one block")
    return require_grid("windows_and_global_tokens", places, 0, grid)


def _require_place(place: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Row and column. Raises LabError unless they are a pair inside the grid."""
    if not isinstance(place, tuple | list) or len(place) != 2:
        raise LabError(f"windows_and_global_tokens: place={place!r}; give (row, column), such as "
                       "(0, 0)")
    row, column = (require_whole("windows_and_global_tokens", name, value, 0, side - 1)
                   for name, value, side in zip(("row", "column"), place, grid))
    return row, column


def _weights(maps: Mapping[str, Tensor], place: int, grid: tuple[int, int],
             window: tuple[int, int] | None) -> Weights:
    """The maps of the place with this number in reading order, heads averaged."""
    local, gather, back = (maps[name].detach().float().mean(dim=axis).cpu()
                           for name, axis in zip(_SHAPES, (1, 0, 0)))
    area = local.shape[-1]
    window = require_grid("windows_and_global_tokens", area, 0, window)
    order = sort_into_windows(grid, window)
    if order.count != len(local):
        raise LabError(f"windows_and_global_tokens: {len(local)} windows of {window[0]} x "
                       f"{window[1]} do not make a map of {grid[0]} x {grid[1]}; give "
                       "window=(rows, columns), and maps of one block")
    slots = order.slots[order.inverse]                # in reading order
    number, inside = divmod(int(slots[place]), area)
    taken = torch.zeros_like(local[..., 0])
    taken[number] = local[number, inside]
    token = int(back[place].argmax())
    rows = (taken.flatten()[slots], gather[token], back[:, token], back[place] @ gather,
            slots // area == number)
    return Weights(*(part.view(grid) for part in rows), token)


def _drawings(image: Tensor, found: Weights, place: tuple[int, int]) -> list[str]:
    """Of each state the picture and the map over it, with the place and its window framed."""
    grid = tuple(found.inside.shape)
    where = found.inside.nonzero()
    outer = box_of((*where.amin(dim=0).tolist(), *where.amax(dim=0).tolist()), grid, image)
    frame = box_of((*place, *place), grid, image)
    alts = ("where the place attends in its window", "where the global token takes",
            "how much of the global token each place takes",
            "from where the place takes through all global tokens")
    return [_drawing(image, cells, frame, outer, alt) for cells, alt in zip(found, alts)]


def _drawing(image: Tensor, cells: Tensor, frame: Box, outer: Box, alt: str) -> str:
    source = side_by_side(image, cells, frame, outer=outer)
    low, high = limits(cells)
    ends = [format_value(value, high) for value in (low, (low + high) / 2, high)]
    return (f'<div style="max-width:34em"><img src="{source}" style="width:100%" alt="The picture, '
            f'and a map over it: {escape(alt)}">{scale_bar(ends)}</div>')


def _captions(found: Weights, place: tuple[int, int]) -> list[str]:
    """Of each state a sentence with one number."""
    seen, places, token = int(found.inside.sum()), found.inside.numel(), found.token
    return [f"1. The framed place, row {place[0]}, column {place[1]}, attends to the {seen} places "
            "of its window; nothing else reaches it.",
            f"2. Global token {token} attends to all {places} places, and so gathers: "
            f"{_outside(found.gathered, found):.0%} of its weight lies outside that window.",
            f"3. Every place attends to the global tokens; the framed one gives token {token} "
            f"{found.handed[place].item():.0%} of its weight.",
            f"Steps 2 and 3 by all global tokens: so the place takes from all {places} places, "
            f"most from {highest(found.through)}."]


def _outside(cells: Tensor, found: Weights) -> float:
    """The share of a map's weight that lies outside the window."""
    return (cells[~found.inside].sum() / cells.sum()).item()


def _table(found: Weights, labels: tuple[str, ...]) -> dict[str, list]:
    maps = found[:4]
    return {"map": list(labels),
            "highest at": [highest(cells) for cells in maps],
            "highest weight": [cells.max().item() for cells in maps],
            "outside the window": [f"{_outside(cells, found):.0%}" for cells in maps]}
