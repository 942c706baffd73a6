"""Figures of token merging: patches of one token by block, and lines over blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import plotly.graph_objects as go
import torch
from torch import Tensor

from ..errors import LabError, plain_numbers, require_grid, require_images
from .card import Card
from .display import described, style
from .film import State, film, magnified, sheet
from .parts import error_bars, listed, span
from .pictures import to_bytes

__all__ = ["by_block", "merged_regions"]

Band = tuple[float, float, float]              # middle, low, high
# pictures side by side: more are too small on a phone
_MOST = 6


@plain_numbers
def merged_regions(images: Tensor, places: Sequence[Tensor],
                   grid: tuple[int, int] | None = None) -> Card:
    """Pictures whose patches merge: borders between tokens, and tokens in their mean colour.

    A film over the blocks, which opens at the last. `images` is (batch, 3, H, W) in [0, 1], at most
    6; `places[i]` (batch, patches) says in which token each patch is after i blocks, as
    `source_map` does without its class token. `grid` is (rows, columns) of the patches, None for a
    square. Raises LabError on places of other pictures or another number of patches, and where
    there are none after a block.
    """
    require_images("merged_regions", images, channels=3)
    _require_places(images, places)
    patches = places[0].shape[1]
    grid = require_grid("merged_regions", patches, 0, grid)
    counts = [*map(_tokens, places)]
    largest = [torch.bincount(now[0].flatten()).max().item() for now in places]
    states = [State(str(block), _drawing(images, now, grid), _caption(block, count, most, patches))
              for block, (now, count, most) in enumerate(zip(places, counts, largest))]
    columns = {"blocks passed": list(range(len(places))), "image tokens": counts,
               "patches of the largest, first picture": largest}
    return film(states, "Pictures whose patches merge into tokens", "blocks passed",
                f"In the first picture {_alone(places[-1][0])} left alone by all blocks, while "
                f"the largest token stands for {_patches(largest[-1])}.",
                len(places) - 1, table=columns)


def _require_places(images: Tensor, places: Sequence[Tensor]) -> None:
    if len(images) > _MOST or len(places) < 2:
        raise LabError(f"merged_regions: {len(images)} pictures, places {len(places)} times; give "
                       f"1 to {_MOST} pictures, and their places before the first block and after "
                       "at least one block")
    for now in places:
        if now.shape != (len(images), places[0].shape[1]):
            raise LabError(f"merged_regions: places of shape {tuple(now.shape)} for {len(images)} "
                           f"pictures of {places[0].shape[1]} patches; give source_map(model)[:, "
                           "1:] of these pictures each time")
        if (now < 0).any():
            raise LabError("merged_regions: patches that were dropped have no place in a token; "
                           "give the source map of a model of merge_tokens, or of reduce_tokens "
                           "with pruned=0")


def _tokens(places: Tensor) -> str:
    """How many tokens are left in pictures."""
    return span(len(one.unique()) for one in places)


def _alone(places: Tensor) -> str:
    """How many patches of one picture (patches,) are tokens of their own."""
    count = int((torch.bincount(places.flatten()) == 1).sum())
    return f"{_patches(count)} {'is' if count == 1 else 'are'}"


def _patches(count: int) -> str:
    return f"{count} patch" if count == 1 else f"{count} patches"


def _caption(block: int, count: str, largest: int, patches: int) -> str:
    blocks = "1 block" if block == 1 else f"{block} blocks"
    return (f"After {blocks}: {count} of {patches} image tokens left; in the first picture the "
            f"largest stands for {_patches(largest)}.")


def _drawing(images: Tensor, places: Tensor, grid: tuple[int, int]) -> str:
    """Above the pictures with borders between tokens, below the same in colours of tokens."""
    pairs = [_bordered_and_painted(image, one.cpu().view(grid))
             for image, one in zip(images, places)]
    return sheet([*zip(*pairs)], f"{len(images)} pictures with white borders between tokens, and "
                                 "below each the same picture, every token in its mean colour.")


def _bordered_and_painted(image: Tensor, cells: Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A picture twice as bytes (h, w, 3), enlarged; `cells` (rows, columns) are tokens."""
    pixels = magnified(image)
    rows, columns = (torch.arange(side) * parts // side
                     for side, parts in zip(pixels.shape, cells.shape))
    tokens = cells[rows][:, columns]                                     # (h, w)
    painted = to_bytes(_mean_colours(image, cells)[:, tokens])
    upward, leftward = tokens[1:] != tokens[:-1], tokens[:, 1:] != tokens[:, :-1]
    for edge, border in ((pixels[1:], upward), (pixels[:-1], upward),
                         (pixels[:, 1:], leftward), (pixels[:, :-1], leftward)):
        edge[border.numpy()] = 255
    return pixels, painted


def _mean_colours(image: Tensor, cells: Tensor) -> Tensor:
    """(3, tokens): the mean colour of each token's patches."""
    colours = torch.nn.functional.adaptive_avg_pool2d(image.float().cpu(), cells.shape).flatten(1)
    index = cells.flatten()
    counts = torch.bincount(index)
    return torch.zeros(3, len(counts)).index_add(1, index, colours) / counts.clamp(min=1)


def by_block(lines: Mapping[str, Sequence[float | Band]], unit: str) -> go.Figure:
    """One line a label over blocks, from 0: numbers, or (middle, low, high) with intervals.

    Raises LabError without lines, and where they differ in length.
    """
    if len({len(values) for values in lines.values()}) != 1:
        raise LabError(f"by_block: lines of {[len(values) for values in lines.values()]} points; "
                       "give each label as many, one before the first block and one after each")
    figure = go.Figure()
    for index, (label, values) in enumerate(lines.items()):
        bands = [value if isinstance(value, tuple) else (value,) * 3 for value in values]
        middle, low, high = zip(*bands)
        bars = error_bars(middle, low, high) if low != high else None
        figure.add_trace(go.Scatter(x=list(range(len(middle))), y=middle, name=label,
                                    mode="lines+markers", error_y=bars, **style(index),
                                    hovertemplate=f"{label}<br>after %{{x}} blocks: "
                                                  f"%{{y:.3g}}<extra></extra>"))
    figure.update_xaxes(title="blocks passed", dtick=1).update_yaxes(title=unit, rangemode="tozero")
    ends = {label: one.y[-1] for label, one in zip(lines, figure.data)}
    most, least = (end(ends, key=ends.get) for end in (max, min))
    said = (f"After the last block, {unit}: {ends[least]:.3g} ({least})"
            + (f" to {ends[most]:.3g} ({most})." if most != least else "."))
    figure.update_layout(height=310)
    return described(figure, f"{unit} after each block: {listed(lines)}.", said)
