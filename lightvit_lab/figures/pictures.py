"""Figures made of pictures: patches in reading order, a gallery, where each patch looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import require_multiple, require_range

_BARE = dict(showticklabels=False, ticks="", showgrid=False, showline=False)


def to_bytes(image: Tensor, scale: int = 1) -> numpy.ndarray:
    """(3, H, W) in [0, 1] -> bytes (H * scale, W * scale, 3), each pixel blown up to scale x scale."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def patch_sequence(image: Tensor, patch_size: int, gap: int = 2) -> go.Figure:
    """One picture (3, H, W) in [0, 1], cut up: its patches apart on the left, in reading order as a sequence on the right."""
    require_multiple("patch_sequence", "image height", image.shape[-2], patch_size, f"patches of {patch_size} pixels")
    rows, columns = image.shape[-2] // patch_size, image.shape[-1] // patch_size
    patches = [image[:, r * patch_size:(r + 1) * patch_size, c * patch_size:(c + 1) * patch_size]
               for r in range(rows) for c in range(columns)]
    half = 2 ** math.ceil(math.log2(max(1, columns)))   # the sequence is broken into rows of twice the grid's width
    figure = make_subplots(1, 2, column_widths=[0.4, 0.6], horizontal_spacing=0.06,
                           subplot_titles=(f"cut into {rows} x {columns} patches", f"a sequence of {rows * columns} tokens"))
    for position, width in enumerate((columns, 2 * half), start=1):
        canvas, centres = _tile(patches, patch_size, width, gap)
        figure.add_trace(go.Image(z=canvas, hoverinfo="skip"), 1, position)
        if len(patches) <= 64:
            figure.add_trace(_numbers(centres, len(patches)), 1, position)
    figure.update_xaxes(**_BARE).update_yaxes(**_BARE)
    return figure.update_layout(height=300, margin=dict(l=10, r=10, t=40, b=10), showlegend=False)


def _tile(patches: Sequence[Tensor], size: int, width: int, gap: int) -> tuple[numpy.ndarray, list[tuple[float, float]]]:
    """Patches side by side with gaps, `width` to a row: white canvas (h, w, 3), and where each number goes (x, y)."""
    step, height = size + gap, math.ceil(len(patches) / width)
    canvas = numpy.full((height * step + gap, width * step + gap, 3), 255, dtype=numpy.uint8)
    centres = []
    for index, patch in enumerate(patches):
        y, x = gap + index // width * step, gap + index % width * step
        canvas[y:y + size, x:x + size] = to_bytes(patch)
        centres.append((x + 0.16 * size, y + 0.16 * size))
    return canvas, centres


def _numbers(centres: list[tuple[float, float]], count: int) -> go.Scatter:
    x, y = zip(*centres)
    return go.Scatter(x=x, y=y, mode="text", text=[str(i) for i in range(count)], hoverinfo="skip",
                      textfont=dict(size=10, color="#E69F00"))


def gallery(images: Tensor, captions: Sequence[str], columns: int = 8) -> go.Figure:
    """Pictures (N, 3, H, W) in [0, 1] in a grid, each under its caption."""
    require_range("gallery", "number of pictures", len(images), 1, 64)
    rows = math.ceil(len(images) / columns)
    figure = make_subplots(rows, columns, subplot_titles=list(captions), horizontal_spacing=0.01,
                           vertical_spacing=0.25 / rows)
    for index, image in enumerate(images):
        figure.add_trace(go.Image(z=to_bytes(image, scale=2), hoverinfo="skip"), index // columns + 1, index % columns + 1)
    figure.update_xaxes(**_BARE).update_yaxes(**_BARE).update_annotations(font_size=12)
    return figure.update_layout(height=130 * rows, margin=dict(l=5, r=5, t=25, b=5))


def where_patches_look(image: Tensor, maps: Sequence[Tensor]) -> go.Figure:
    """A slider over the patches of one picture (3, H, W); for the chosen one, where each block of a ViT looks.

    `maps` holds per block the attention among the image tokens, (tokens, tokens), averaged over heads or of one head,
    rows from the looking token. The chosen patch is framed; brighter is more attention.
    """
    tokens = maps[0].shape[0]
    side = math.isqrt(tokens)
    patch = image.shape[-1] / side
    brightest = max(block.max().item() for block in maps)
    figure = make_subplots(1, 1 + len(maps), horizontal_spacing=0.015,
                           subplot_titles=("picture", *(f"block {i}" for i in range(len(maps)))))
    figure.add_trace(go.Image(z=to_bytes(image), hoverinfo="skip"), 1, 1)
    for column in range(1, 2 + len(maps)):
        figure.add_trace(_frame(0, side, patch), 1, column)
    heat = [go.Heatmap(**_heat(block[0], side, patch), zmin=0, zmax=brightest, colorscale="Cividis",
                       showscale=column == len(maps) - 1, colorbar=dict(title="weight", len=0.9))
            for column, block in enumerate(maps)]
    for column, trace in enumerate(heat, start=2):
        figure.add_trace(trace, 1, column)
    _add_slider(figure, maps, side, patch)
    limits = dict(range=[-0.5, image.shape[-1] - 0.5], constrain="domain")
    figure.update_xaxes(**_BARE, **limits).update_yaxes(**_BARE, range=limits["range"][::-1], scaleanchor="x")
    return figure.update_layout(height=330, margin=dict(l=10, r=10, t=40, b=10), showlegend=False)


def _heat(row: Tensor, side: int, patch: float) -> dict:
    """A row of attention as a heat map whose cells lie on the picture's pixels."""
    centres = [(i + 0.5) * patch - 0.5 for i in range(side)]
    return dict(z=row.reshape(side, side).round(decimals=4).tolist(), x=centres, y=centres,
                hovertemplate="weight %{z:.3f}<extra></extra>")


def _frame(token: int, side: int, patch: float) -> go.Scatter:
    """A frame round one patch."""
    left, top = token % side * patch - 0.5, token // side * patch - 0.5
    return go.Scatter(x=[left, left + patch, left + patch, left, left], y=[top, top, top + patch, top + patch, top],
                      mode="lines", line=dict(color="#E69F00", width=3), hoverinfo="skip")


def _add_slider(figure: go.Figure, maps: Sequence[Tensor], side: int, patch: float) -> None:
    """One animation frame per patch: the frames move, the heat maps change; works without a kernel."""
    blocks = len(maps)
    figure.frames = [
        go.Frame(name=str(token), traces=list(range(1, 2 + 2 * blocks)), data=[
            *(_frame(token, side, patch) for _ in range(1 + blocks)),
            *(go.Heatmap(**_heat(block[token], side, patch)) for block in maps)])
        for token in range(side * side)]
    steps = [dict(label=str(token), method="animate",
                  args=[[str(token)], dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0))])
             for token in range(side * side)]
    figure.update_layout(sliders=[dict(active=0, currentvalue=dict(prefix="looking patch: "), pad=dict(t=10), steps=steps)])
