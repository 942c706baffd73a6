"""Figures of token pruning: which patches are left, how many, and the measured gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy
import plotly.graph_objects as go
import torch
from torch import Tensor

from ..errors import LabError, plain_numbers
from ..profiling import realisation
from .card import Card
from .display import described, style
from .film import State, film, magnified, sheet
from .parts import PATTERNS, error_bars, folded, listed, require_some, span

__all__ = ["gains_over_size", "kept_by_block", "kept_counts", "promised_and_arrived"]

Interval = tuple[float, float, float]      # a ratio, and the two ends of its interval
_MOST, _ACROSS = 6, 3                      # pictures drawn, and those in a row, for phones
# how much of a dropped patch's brightness is left in a medium grey, and its opacity of 255
_PALE, _GREY, _FAINT = 0.3, 128, 56


@plain_numbers
def kept_by_block(images: Tensor, kept: Sequence[Tensor], labels: Sequence[str], patch_size: int,
                  on_object: Tensor | None = None, names: Sequence[str] = ()) -> Card:
    """The first six pictures (P, 3, H, W) in [0, 1], pruned patches faint: a film over choices.

    `kept` holds for each choice the patches left, (P, k), row by row from 0, -1 for none, as
    `kept_patches` returns them; `labels` name the choices. The film begins with all patches, and
    opens at the last choice. `on_object` (P, patches) is the share of each patch that lies on the
    object: captions and table then say how much of it is left, on average over all P. `names` of
    the pictures stand in the table. Raises LabError where counts differ, and on a patch that is
    not in the picture.
    """
    whole = (images.shape[-2] // patch_size) * (images.shape[-1] // patch_size)
    _require_choices(images, kept, labels, whole)
    _require_pictures(images, on_object, names, whole)
    choices = [torch.arange(whole).expand(len(images), -1), *(places.cpu() for places in kept)]
    shares = [None if on_object is None else _covered(on_object, places) for places in choices]
    states = [State(label, _faded_sheet(images[:_MOST], places, patch_size),
                    _left(label, places, whole, share))
              for label, places, share in zip(["all", *labels], choices, shares)]
    finding, columns = (_counted(labels, choices[1:], whole) if on_object is None else
                        _of_object(labels, shares[1:], names))
    return film(states, f"Patches left in pictures: {listed(labels)}", "patches left", finding,
                len(labels), table=columns)


def _require_choices(images: Tensor, kept: Sequence[Tensor], labels: Sequence[str],
                     whole: int) -> None:
    if len(kept) != len(labels) or not len(kept) or any(len(places) != len(images)
                                                        for places in kept):
        raise LabError(f"kept_by_block: {len(images)} pictures, {len(kept)} choices of "
                       f"{[len(one) for one in kept]} pictures, {len(labels)} labels; give a label "
                       "and the patches of every picture for each choice")
    if not all(-1 <= place < whole for places in kept for place in places.flatten().tolist()):
        raise LabError(f"kept_by_block: pictures have patches 0 to {whole - 1}, -1 stands for "
                       f"none, and there is {max(places.max().item() for places in kept)}; give "
                       "what kept_patches(model, inputs) returns")


def _require_pictures(images: Tensor, on_object: Tensor | None, names: Sequence[str],
                      whole: int) -> None:
    if on_object is not None and on_object.shape != (len(images), whole):
        raise LabError(f"kept_by_block: on_object of shape {tuple(on_object.shape)} for "
                       f"{len(images)} pictures of {whole} patches; give {(len(images), whole)}")
    if names and len(names) != len(images):
        raise LabError(f"kept_by_block: {len(names)} names for {len(images)} pictures; give one "
                       "for each, or none")


def _covered(on_object: Tensor, places: Tensor) -> Tensor:
    """Of each picture (P,) how much of its object lies on the patches at `places` (P, k)."""
    shares = on_object.cpu().float()
    inside = (shares.gather(1, places.clamp(min=0)) * (places >= 0)).sum(1)
    return inside / shares.sum(1).clamp(min=1e-9)


def _counts(places: Tensor) -> str:
    """How many patches pictures keep."""
    return span((places >= 0).sum(1).tolist())


def _left(label: str, places: Tensor, whole: int, share: Tensor | None) -> str:
    """The caption of a choice."""
    fact = (f"({(places >= 0).sum().item() / (whole * len(places)):.0%})" if share is None else
            f"with {share.mean():.0%} of the object")
    return f"{label[:1].upper()}{label[1:]}: {_counts(places)} of {whole} patches left {fact}."


def _counted(labels: Sequence[str], choices: Sequence[Tensor],
             whole: int) -> tuple[str, dict[str, list[Any]]]:
    """Finding and table where only the patches are known."""
    counts = [*map(_counts, choices)]
    more = f", {counts[-1]} ({labels[-1]})" if len(labels) > 1 else ""
    return (f"Of {whole} patches {counts[0]} are left ({labels[0]}){more}.",
            {"choice": list(labels), "patches left": counts})


def _of_object(labels: Sequence[str], shares: Sequence[Tensor],
               names: Sequence[str]) -> tuple[str, dict[str, list[Any]]]:
    """Finding and table where the object is known, on average over all pictures."""
    pictures = len(shares[0])
    drawn = list(names[:_MOST]) or [f"picture {n}" for n in range(1, min(_MOST, pictures) + 1)]
    means = [share.mean().item() for share in shares]
    more = f" and {means[-1]:.0%} ({labels[-1]})" if len(labels) > 1 else ""
    columns = {f"of the object, {label}": [*share[:_MOST].tolist(), middle]
               for label, share, middle in zip(labels, shares, means)}
    return (f"The patches left hold {means[0]:.0%} of the object ({labels[0]}){more}, on average "
            f"over {pictures} pictures.",
            {"picture": [*drawn, f"mean of {pictures}"]} | columns)


def _faded_sheet(images: Tensor, kept: Tensor, patch_size: int) -> str:
    drawn = [_faded(image, places, patch_size) for image, places in zip(images, kept)]
    rows = [drawn[start:start + _ACROSS] for start in range(0, len(drawn), _ACROSS)]
    return sheet(rows, f"{len(drawn)} pictures; patches that are not left are faint and grey.")


def _faded(image: Tensor, kept: Tensor, patch_size: int) -> numpy.ndarray:
    """A picture as bytes (h, w, 4), enlarged; patches not `kept` are grey and nearly transparent.

    They are pale on a white page and dark on a black one.
    """
    pixels = magnified(image)
    opacity = numpy.full((*pixels.shape[:2], 1), 255, dtype=numpy.uint8)
    side = patch_size * pixels.shape[0] // image.shape[-2]
    columns = image.shape[-1] // patch_size
    for place in set(range(columns * (image.shape[-2] // patch_size))) - set(kept.tolist()):
        top, left = place // columns * side, place % columns * side
        patch = pixels[top:top + side, left:left + side]
        patch[:] = (_PALE * patch.mean(axis=-1, keepdims=True) + (1 - _PALE) * _GREY).round()
        opacity[top:top + side, left:left + side] = _FAINT
    return numpy.concatenate([pixels, opacity], axis=-1)


def promised_and_arrived(gains: Mapping[str, tuple[float, Interval]]) -> go.Figure:
    """Of each model, the gain in MACs, and the measured gain in time with its interval.

    `gains`: label -> (MACs of the original model over its own, (time over its own, low, high)). The
    line at 1 is the original model.
    """
    require_some("promised_and_arrived", gains, "(MACs gain, (time gain, low, high))")
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
    more = f" to {shares[most]:.0%} ({most})" if most != least else ""
    columns = {"model": names, "times fewer MACs": list(macs), "times as fast": list(middle),
               "low": list(low), "high": list(high), "share that arrives": [*shares.values()]}
    return described(figure, f"Gain in MACs and gain in time, with intervals: {listed(names)}; a "
                             "line at 1 is the original model.",
                     f"Of the promised gain, {shares[least]:.0%} ({least}){more} arrives.", columns)


def gains_over_size(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Measured speedup of recipes over the side of the picture; thin lines: gain in MACs.

    `rows` are the "sizes" of a stored result: "image_size", "label", "macs_gain" and "speedup"
    (ratio, low, high); the table has their "tokens", where given. Raises LabError without rows.
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
    ends = [_fastest(rows, size) for size in dict.fromkeys((min(sizes), max(sizes)))]
    keys = [key for key in ("label", "image_size", "tokens", "macs_gain") if key in rows[0]]
    columns = dict(zip(keys, zip(*map(itemgetter(*keys), rows))))
    columns |= zip(("times as fast", "low", "high"), zip(*map(itemgetter("speedup"), rows)))
    return described(figure, "Gain in time over the side of the picture, with intervals, and the "
                             f"gain in MACs as dotted lines: {listed(labels)}.",
                     f"{', '.join(ends).capitalize()}.", columns)


def _fastest(rows: Sequence[Mapping[str, Any]], size: int) -> str:
    gain = max(row["speedup"][0] for row in rows if row["image_size"] == size)
    return f"at {size} px up to {gain:.2f} times as fast"


def kept_counts(counts: Mapping[str, Sequence[int]], whole: int) -> go.Figure:
    """How many pictures keep how many patches: label -> the number that each picture keeps.

    Each label has a pattern of its own. The axis ends at `whole`, all patches.
    """
    require_some("kept_counts", counts, "[patches, ...]")
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
    figure.update_layout(barmode="overlay", height=310)
    places = range(max(map(max, counts.values())) + 1)
    columns = {"patches kept": list(places)}
    for label, numbers in counts.items():
        columns[label] = [list(numbers).count(place) for place in places]
    first = next(iter(counts))
    return described(figure, f"How many pictures keep how many of {whole} patches: "
                             f"{listed(counts)}.",
                     f"Pictures keep {span(counts[first])} of {whole} patches ({first}).", columns)
