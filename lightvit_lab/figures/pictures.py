"""Figures made of pictures: patches in reading order, a gallery, where each patch looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import plain_numbers, require_multiple, require_range
from .display import described
from .parts import BARE, listed

__all__ = ["gallery", "patch_sequence", "pictures_and_maps"]


@plain_numbers
def to_bytes(image: Tensor, scale: int = 1) -> numpy.ndarray:
    """(3, H, W) in [0, 1] -> bytes (H * scale, W * scale, 3): pixels of scale x scale."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@plain_numbers
def patch_sequence(image: Tensor, patch_size: int) -> go.Figure:
    """One picture (3, H, W) in [0, 1], cut into patches, and these in reading order."""
    for side, length in zip(("height", "width"), image.shape[-2:]):
        require_multiple("patch_sequence", f"image {side}", length, patch_size,
                         f"patches of {patch_size} pixels")
    rows, columns = image.shape[-2] // patch_size, image.shape[-1] // patch_size
    patches = [image[:, r * patch_size:(r + 1) * patch_size, c * patch_size:(c + 1) * patch_size]
               for r in range(rows) for c in range(columns)]
    figure = make_subplots(1, 2, column_widths=[0.4, 0.6], horizontal_spacing=0.06,
                           subplot_titles=(f"{rows} x {columns} patches",
                                           f"{rows * columns} tokens"))
    for position, width in enumerate((columns, 2 * columns), start=1):
        canvas, places = _tile(patches, patch_size, width)
        figure.add_trace(go.Image(z=canvas, colormodel="rgba256", hoverinfo="skip"), 1, position)
        if len(patches) <= 64:
            figure.add_trace(_numbers(places), 1, position)
    figure.update_xaxes(**BARE).update_yaxes(**BARE)
    figure.update_layout(height=280, margin=dict(l=10, r=10, t=40, b=10), showlegend=False)
    return described(figure, f"A picture cut into {rows} by {columns} patches, and the same "
                             f"{rows * columns} patches in reading order, numbered from 0.",
                     "What lies beside a patch is the next token; what lies below it comes "
                     f"{columns} tokens later.")


def _tile(patches: Sequence[Tensor], size: int,
          width: int) -> tuple[numpy.ndarray, list[tuple[float, float]]]:
    """Patches side by side, `width` to a row: canvas (h, w, 4), and a place (x, y) above each."""
    # between patches, and above each for its number
    gap, head = max(1, size // 8), max(1, size // 2)
    height = math.ceil(len(patches) / width)
    canvas = numpy.zeros((height * (size + head), width * (size + gap) + gap, 4),
                         dtype=numpy.uint8)          # transparent: dark pages are dark between
    places = []
    for index, patch in enumerate(patches):
        y, x = head + index // width * (size + head), gap + index % width * (size + gap)
        canvas[y:y + size, x:x + size, :3] = to_bytes(patch)
        canvas[y:y + size, x:x + size, 3] = 255
        places.append((x + (size - 1) / 2, y - head / 2 - 0.5))
    return canvas, places


def _numbers(places: list[tuple[float, float]]) -> go.Scatter:
    x, y = zip(*places)
    return go.Scatter(x=x, y=y, mode="text", text=[str(i) for i in range(len(places))],
                      hoverinfo="skip", textfont_size=11)


@plain_numbers
def gallery(images: Tensor, captions: Sequence[str], columns: int = 4) -> go.Figure:
    """Pictures (N, 3, H, W) in [0, 1] in a grid with captions, one word a line for phones."""
    require_range("gallery", "number of pictures", len(images), 1, 64)
    rows = math.ceil(len(images) / columns)
    more = max(caption.count(" ") for caption in captions)       # lines beyond the first
    figure = make_subplots(rows, columns,
                           subplot_titles=[caption.replace(" ", "<br>") for caption in captions],
                           horizontal_spacing=0.01, vertical_spacing=(0.2 + 0.08 * more) / rows)
    for index, image in enumerate(images):
        figure.add_trace(go.Image(z=to_bytes(image, scale=2), hoverinfo="skip"),
                         index // columns + 1, index % columns + 1)
    figure.update_xaxes(**BARE).update_yaxes(**BARE).update_annotations(font_size=12)
    figure.update_layout(height=(150 + 15 * more) * rows,
                         margin=dict(l=5, r=5, t=25 + 15 * more, b=5))
    return described(figure, f"{len(images)} pictures side by side: {listed(captions)}.")


def pictures_and_maps(images: Tensor, maps: Sequence[Tensor], titles: Sequence[str],
                      unit: str) -> go.Figure:
    """Pictures (N, 3, H, W) in [0, 1], one to a row, with their maps, (N, rows, columns) each.

    All maps share one scale, named by `unit`; `titles` stand above the maps.
    """
    figure = make_subplots(len(images), 1 + len(maps), horizontal_spacing=0.015,
                           vertical_spacing=0.08 / len(images),
                           subplot_titles=["picture",
                                           *(title.replace(" ", "<br>") for title in titles)])
    for row, image in enumerate(images, start=1):
        figure.add_trace(go.Image(z=to_bytes(image, scale=2), hoverinfo="skip"), row, 1)
        for column, values in enumerate(maps, start=2):
            cells = values[row - 1].float().round(decimals=3).tolist()
            figure.add_trace(go.Heatmap(z=cells, coloraxis="coloraxis",
                                        hovertemplate="%{z:.2f}<extra></extra>"), row, column)
            name = figure.get_subplot(row, column).xaxis.plotly_name.replace("axis", "")
            figure.update_yaxes(scaleanchor=name, autorange="reversed", row=row, col=column)
    figure.update_xaxes(**BARE, constrain="domain")
    figure.update_yaxes(**BARE, constrain="domain").update_annotations(font_size=11)
    lines = max(title.count(" ") for title in titles)
    greatest = max(values.max().item() for values in maps)
    bar = dict(title=dict(text=unit, side="top"), orientation="h", len=0.6, thickness=10, y=0,
               yanchor="top")
    figure.update_layout(height=104 * len(images) + 110 + 14 * lines,
                         margin=dict(l=5, r=5, t=40 + 14 * lines, b=70),
                         coloraxis=dict(colorscale="Cividis", cmin=0, cmax=greatest, colorbar=bar))
    columns = {"map": list(titles), f"highest {unit}": [values.max().item() for values in maps],
               f"mean {unit}": [values.float().mean().item() for values in maps]}
    return described(figure, f"{len(images)} pictures in rows, and beside each a map of {unit} "
                             f"for {listed(titles)}.", "", columns)
