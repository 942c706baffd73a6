"""Figures of token merging: patches of one token by block, and lines over blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers, require_grid, require_images
from .display import described, style
from .parts import BARE, error_bars, listed
from .pictures import to_bytes

__all__ = ["by_block", "merged_regions"]

Band = tuple[float, float, float]              # middle, low, high
# pictures side by side: more are too small on a phone
_MOST = 6


@plain_numbers
def merged_regions(images: Tensor, places: Sequence[Tensor],
                   grid: tuple[int, int] | None = None) -> go.Figure:
    """Pictures whose patches merge: borders between tokens, and tokens in their mean colour.

    A slider goes over the blocks. `images` is (batch, 3, H, W) in [0, 1], at most 6; `places[i]`
    (batch, patches) says in which token each patch is after i blocks, as `source_map` does without
    its class token. `grid` is (rows, columns) of the patches, None for a square. The slider needs
    no kernel. Raises LabError on places of other pictures or another number of patches.
    """
    require_images("merged_regions", images, channels=3)
    _require_places(images, places)
    rows, columns = require_grid("merged_regions", places[0].shape[1], 0, grid)
    across = len(images)
    figure = make_subplots(2, across, horizontal_spacing=0.02, vertical_spacing=0.03)
    for index, image in enumerate(images, start=1):
        figure.add_trace(go.Image(z=to_bytes(image), hoverinfo="skip"), 1, index)
    steps = [_step(images, now, (rows, columns)) for now in places]
    for position, trace in enumerate(steps[0]):
        figure.add_trace(trace, 1 + position // across, 1 + position % across)
    moving = list(range(across, 3 * across))
    figure.frames = [go.Frame(name=str(block), data=step, traces=moving)
                     for block, step in enumerate(steps)]
    figure.update_xaxes(**BARE, constrain="domain").update_yaxes(**BARE, constrain="domain")
    counts = [_tokens(now) for now in places]
    return figure.update_layout(height=460, margin=dict(l=5, r=5, t=10, b=110), showlegend=False,
                                sliders=[_slider(counts)])


def _require_places(images: Tensor, places: Sequence[Tensor]) -> None:
    if len(images) > _MOST or not places:
        raise LabError(f"merged_regions: {len(images)} pictures at {len(places)} blocks; give 1 to "
                       f"{_MOST} pictures, and the places of at least one block")
    for now in places:
        if now.shape != (len(images), places[0].shape[1]):
            raise LabError(f"merged_regions: places of shape {tuple(now.shape)} for {len(images)} "
                           f"pictures of {places[0].shape[1]} patches; give source_map(model)[:, "
                           "1:] of these pictures each time")


def _tokens(places: Tensor) -> int:
    """How many tokens are left, the same in each picture."""
    return len(places[0].unique())


def _step(images: Tensor, places: Tensor, grid: tuple[int, int]) -> list[go.Scatter | go.Image]:
    borders = [_borders(one.view(grid), image.shape[-2:]) for one, image in zip(places, images)]
    return [*borders, *(_painted(one.view(grid), image) for one, image in zip(places, images))]


def _borders(cells: Tensor, size: tuple[int, int]) -> go.Scatter:
    """Lines between neighbouring patches (rows, columns) of different tokens, in pixels."""
    high, wide = size[0] / cells.shape[0], size[1] / cells.shape[1]
    x: list[float | None] = []
    y: list[float | None] = []
    for row, column in (cells[:, 1:] != cells[:, :-1]).nonzero().tolist():
        x += [(column + 1) * wide - 0.5] * 2 + [None]
        y += [row * high - 0.5, (row + 1) * high - 0.5, None]
    for row, column in (cells[1:] != cells[:-1]).nonzero().tolist():
        x += [column * wide - 0.5, (column + 1) * wide - 0.5, None]
        y += [(row + 1) * high - 0.5] * 2 + [None]
    return go.Scatter(x=x, y=y, mode="lines", line=dict(color="#FFFFFF", width=1.5),
                      hoverinfo="skip")


def _painted(cells: Tensor, image: Tensor) -> go.Image:
    """Each patch in the mean colour of its token; hovering shows how many patches that has."""
    rows, columns = cells.shape
    colours = torch.nn.functional.adaptive_avg_pool2d(image.float().cpu(),
                                                      (rows, columns)).flatten(1)
    index = cells.flatten().cpu()
    counts = torch.bincount(index)
    means = torch.zeros(3, len(counts)).index_add(1, index, colours) / counts.clamp(min=1)
    names = numpy.array([f"token of {count} patches" for count in counts.tolist()])
    return go.Image(z=to_bytes(means[:, index].view(3, rows, columns)).tolist(),
                    hovertemplate="%{text}<extra></extra>",
                    text=names[cells.cpu().numpy()].tolist())


def _slider(counts: Sequence[int]) -> dict[str, Any]:
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True},
           "transition": {"duration": 0}}
    steps = [dict(method="animate", label=str(count), args=[[str(block)], now])
             for block, count in enumerate(counts)]
    return dict(active=0, steps=steps,
                currentvalue=dict(prefix="block by block, image tokens left: "),
                pad=dict(t=15), x=0, len=1)


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
    said = (f"After the last block {most} is at {ends[most]:.3g}"
            + (f", {least} at {ends[least]:.3g}." if most != least else "."))
    figure.update_layout(height=350)
    return described(figure, f"{unit} after each block: {listed(lines)}.", said)
