"""Figures of token pruning: which patches are left, how many, and the measured gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import plotly.graph_objects as go
from PIL import Image
from torch import Tensor

from ..errors import LabError, plain_numbers
from ..profiling import realisation
from .display import described, style
from .overlay import data_uri
from .parts import BARE, PATTERNS, error_bars, folded, listed
from .pictures import to_bytes

__all__ = ["gains_over_size", "kept_by_block", "kept_counts", "promised_and_arrived"]

Interval = tuple[float, float, float]      # a ratio, and the two ends of its interval
_ACROSS = 3                                # pictures in a row: more are too small on a phone
# how much of a dropped patch is still seen, on which grey
_PALE, _WHITE = 0.15, 232


@plain_numbers
def kept_by_block(images: Tensor, kept: Sequence[Tensor], labels: Sequence[str],
                  patch_size: int) -> go.Figure:
    """Pictures (P, 3, H, W) in [0, 1], pruned patches pale; a slider goes through choices.

    `kept` holds for each choice the patches left, (P, k), row by row from 0, -1 for none, as
    `kept_patches` returns them; `labels` name the choices. The slider needs no kernel and begins at
    the first choice. Raises LabError where counts differ, and on a patch that is not in the
    picture.
    """
    if len(kept) != len(labels) or not len(kept) or any(len(places) != len(images)
                                                        for places in kept):
        raise LabError(f"kept_by_block: {len(images)} pictures, {len(kept)} choices of "
                       f"{[len(one) for one in kept]} pictures, {len(labels)} labels; give a label "
                       "and the patches of every picture for each choice")
    whole = (images.shape[-2] // patch_size) * (images.shape[-1] // patch_size)
    if not all(-1 <= place < whole for places in kept for place in places.flatten().tolist()):
        raise LabError(f"kept_by_block: pictures have patches 0 to {whole - 1}, -1 stands for "
                       f"none, and there is {max(places.max().item() for places in kept)}; give "
                       "what kept_patches(model, inputs) returns")
    sheets = [_sheet(images, None, patch_size),
              *(_sheet(images, places, patch_size) for places in kept)]
    names = ["all", *labels]
    figure = go.Figure(sheets[1])
    figure.frames = [go.Frame(name=name, data=[sheet], traces=[0])
                     for name, sheet in zip(names, sheets)]
    figure.update_xaxes(**BARE).update_yaxes(**BARE)
    height = 140 * -(-len(images) // _ACROSS) + 130
    return figure.update_layout(height=height, margin=dict(l=5, r=5, t=5, b=110),
                                sliders=[_slider(names)])


def _sheet(images: Tensor, kept: Tensor | None, patch_size: int) -> go.Image:
    """All pictures side by side, in rows, as one PNG; without `kept` all patches are there."""
    pictures = [_greyed(image, None if kept is None else kept[index], patch_size)
                for index, image in enumerate(images)]
    height, width, _ = pictures[0].shape
    gap, rows = max(4, width // 16), -(-len(pictures) // _ACROSS)
    sheet = numpy.full((rows * (height + gap) - gap,
                        min(len(pictures), _ACROSS) * (width + gap) - gap, 3), 255,
                       dtype=numpy.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // _ACROSS * (height + gap), index % _ACROSS * (width + gap)
        sheet[top:top + height, left:left + width] = picture
    return go.Image(source=data_uri(Image.fromarray(sheet)), hoverinfo="skip")


def _greyed(image: Tensor, kept: Tensor | None, patch_size: int) -> numpy.ndarray:
    """A picture as bytes (H, W, 3), enlarged three times, with patches not `kept` pale."""
    times, columns = 3, image.shape[-1] // patch_size
    pixels = to_bytes(image, times).copy()
    stays = set(range(columns * (image.shape[-2] // patch_size)) if kept is None else kept.tolist())
    side = times * patch_size
    for place in set(range(columns * (image.shape[-2] // patch_size))) - stays:
        top, left = place // columns * side, place % columns * side
        patch = pixels[top:top + side, left:left + side]
        patch[:] = (_PALE * patch.mean(axis=-1, keepdims=True) + (1 - _PALE) * _WHITE).round()
    return pixels


def _slider(names: Sequence[str]) -> dict[str, Any]:
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True},
           "transition": {"duration": 0}}
    steps = [dict(method="animate", label=name, args=[[name], now]) for name in names]
    return dict(active=1, steps=steps, currentvalue=dict(prefix="patches left: "), pad=dict(t=30),
                x=0.07, len=0.86)


def promised_and_arrived(gains: Mapping[str, tuple[float, Interval]]) -> go.Figure:
    """Of each model, the gain in MACs, and the measured gain in time with its interval.

    `gains`: label -> (MACs of the whole model over its own, (time over its own, low, high)). The
    line at 1 is the whole model.
    """
    names, (macs, times) = list(gains), zip(*gains.values())
    middle, low, high = zip(*times)
    figure = go.Figure()
    figure.add_vline(x=1, line=dict(color="#000000", width=1, dash="dash"))
    figure.add_trace(go.Scatter(x=macs, y=names, name="times fewer MACs", mode="markers",
                                marker=style(0)["marker"] | {"symbol": "circle-open", "size": 12},
                                hovertemplate="%{y}: %{x:.2f} times fewer MACs<extra></extra>"))
    figure.add_trace(go.Scatter(x=middle, y=names, name="times as fast, measured", mode="markers",
                                marker=style(1)["marker"], error_x=error_bars(middle, low, high),
                                hovertemplate="%{y}: %{x:.2f} times as fast<extra></extra>"))
    figure.update_xaxes(title="gain (times)", tickangle=0)
    figure.update_yaxes(autorange="reversed", tickvals=names,
                        ticktext=[folded(name) for name in names], tickfont_size=12)
    figure.update_layout(height=46 * len(names) + 100, margin=dict(t=15))
    shares = {name: realisation(time[0], gain) for name, gain, time in zip(names, macs, times)}
    least, most = (end(shares, key=shares.get) for end in (min, max))
    said = (f"Of the promised gain, {shares[least]:.0%} arrives with {least}"
            + (f" and {shares[most]:.0%} with {most}." if most != least else "."))
    columns = {"model": names, "times fewer MACs": list(macs), "times as fast": list(middle),
               "low": list(low), "high": list(high), "share that arrives": [*shares.values()]}
    return described(figure, f"Gain in MACs and gain in time, with intervals: {listed(names)}; a "
                             "line at 1 is the whole model.", said, columns)


def gains_over_size(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Measured speedup of recipes over the side of the picture; thin lines: gain in MACs.

    `rows` are the "sizes" of a stored result: "image_size", "label", "macs_gain" and "speedup"
    (ratio, low, high). Raises LabError without rows.
    """
    if not rows:
        raise LabError("gains_over_size: no rows; give "
                       'results.load("token_pruning_cifar10").data["sizes"]')
    labels = [*dict.fromkeys(row["label"] for row in rows)]
    sizes = [*dict.fromkeys(row["image_size"] for row in rows)]
    figure = go.Figure()
    figure.add_hline(y=1, line=dict(color="#000000", width=1, dash="dash"))
    for index, label in enumerate(labels):
        here = [row for row in rows if row["label"] == label]
        xs = [row["image_size"] for row in here]
        middle, low, high = zip(*(row["speedup"] for row in here))
        hover = f"{label}, %{{x}} px: %{{y:.2f}} "
        figure.add_trace(go.Scatter(x=xs, y=middle, name=f"{label}: time", mode="lines+markers",
                                    **style(index), error_y=error_bars(middle, low, high),
                                    hovertemplate=hover + "times as fast<extra></extra>"))
        figure.add_trace(go.Scatter(x=xs, y=[row["macs_gain"] for row in here],
                                    name=f"{label}: MACs", mode="lines",
                                    line=style(index)["line"] | {"width": 1, "dash": "dot"},
                                    hovertemplate=hover + "times fewer MACs<extra></extra>"))
    figure.update_xaxes(title="side of the picture (pixels)", tickvals=sizes, tickangle=0)
    figure.update_yaxes(title="gain (times)")
    ends = {size: max(row["speedup"][0] for row in rows if row["image_size"] == size)
            for size in (min(sizes), max(sizes))}
    said = ", ".join(f"at {size} px up to {gain:.2f} times as fast" for size, gain in ends.items())
    columns = {key: [row[key] for row in rows] for key in ("image_size", "label", "macs_gain")}
    columns["times as fast"] = [row["speedup"][0] for row in rows]
    return described(figure, "Gain in time over the side of the picture, with intervals, and the "
                             f"gain in MACs as dotted lines: {listed(labels)}.",
                     said[0].upper() + said[1:] + ".", columns)


def kept_counts(counts: Mapping[str, Sequence[int]], whole: int) -> go.Figure:
    """How many pictures keep how many patches: label -> the number that each picture keeps.

    Each label has a pattern of its own. The axis ends at `whole`, all patches.
    """
    figure = go.Figure()
    for index, (label, numbers) in enumerate(counts.items()):
        found = sorted(Counter(numbers).items())
        figure.add_trace(go.Bar(x=[number for number, _ in found],
                                y=[pictures for _, pictures in found], name=label,
                                marker=dict(color=style(index)["marker"]["color"],
                                            pattern=dict(shape=PATTERNS[index % len(PATTERNS)])),
                                hovertemplate=f"{label}: %{{y}} pictures keep %{{x}} patches<extra>"
                                              "</extra>"))
    figure.update_xaxes(title="patches kept", range=[0, whole + 1]).update_yaxes(title="pictures")
    return figure.update_layout(barmode="overlay", height=340)
