"""Figures of early exits: who leaves where, accuracy over mean cost, reliability."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from ..data import Pictures
from ..dynamic.early_exit.report import Reliability
from ..dynamic.early_exit.rules import Confidence, confidence, exits_taken
from ..errors import LabError, plain_numbers, require_whole
from .card import Card
from .display import COLOURS, TEXT, described, style
from .film import State, film
from .overlay import picture_uri
from .parts import LINE, PATTERNS, error_bars, folded, listed, percents, require_some
from .tables import by_column

__all__ = ["exit_diagram", "exit_frontier", "exits_by_threshold", "reliability_diagram",
           "shares_leaving"]

# From the strictest on, so that the last state, that of paper, is one where pictures leave early.
THRESHOLDS = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
OPENS = 0.9             # the threshold nearest to it is that at which the film begins

# dark is deep
_DEEPEST = "#000001"        # black has a twin in dark themes, where dark would not be deep any more
_SHADES = ("#FDE725", "#9FB57A", "#5E8C8C", "#3B5F86", "#35406B", "#2A1A4A", _DEEPEST)


def exit_diagram(layers: Sequence[int], blocks: int, costs: Sequence[float]) -> go.Figure:
    """A row of `blocks` from stem to final classifier, and below it the exits after `layers`.

    `costs` are shares of the model's MACs up to each exit, the final classifier last.
    Raises LabError where there is not one for each.
    """
    if len(costs) != len(layers) + 1 or not all(0 <= layer < blocks - 1 for layer in layers):
        raise LabError(f"exit_diagram: layers={list(layers)} of {blocks} blocks and {len(costs)} "
                       "costs; give 0-based blocks before the last, and one cost more than exits")
    names = ["stem", *(str(block) for block in range(blocks)), "final"]
    boxes = [(place, 1.0, name, COLOURS[5]) for place, name in enumerate(names)]
    boxes += [(layer + 1.5, 0.0, f"exit {place}", COLOURS[1])
              for place, layer in enumerate(layers)]
    shares = [(layer + 1.5, -0.45) for layer in layers] + [(blocks + 1, 0.55)]
    figure = go.Figure(go.Scatter(
        x=[x for x, *_ in boxes], y=[y for _, y, *_ in boxes], text=[box[2] for box in boxes],
        mode="text", textfont=dict(size=TEXT, color="#222222"), hoverinfo="skip"))
    figure.add_trace(go.Scatter(
        x=[x for x, _ in shares], y=[y for _, y in shares], mode="text", hoverinfo="skip",
        text=[f"{cost:.0%}" for cost in costs], textfont=dict(size=TEXT, color="#222222")))
    for x, y, _, colour in boxes:
        figure.add_shape(type="rect", x0=x - 0.42, x1=x + 0.42, y0=y - 0.25, y1=y + 0.25,
                         line=dict(color=colour, width=2))
    for x0, x1, y0, y1 in [*((place + 0.42, place + 0.58, 1, 1) for place in range(blocks + 1)),
                           *((layer + 1.5, layer + 1.5, 1, 0.25) for layer in layers)]:
        figure.add_shape(type="line", x0=x0, x1=x1, y0=y0, y1=y1,
                         line=dict(color="#555555", width=1.5))
    figure.update_xaxes(visible=False, range=[-0.6, blocks + 1.6])
    figure.update_yaxes(visible=False, range=[-0.7, 1.4])
    figure.update_layout(height=190, showlegend=False, margin=dict(l=5, r=5, t=5, b=5))
    return described(figure, f"A row of boxes: the stem, {blocks} blocks and the final "
                             f"classifier. After block {listed(map(str, layers))} a line goes down "
                             "to an exit of its own.",
                     f"Up to exit 0 a picture costs {costs[0]:.0%} of the model's MACs, up to "
                     f"the final classifier {costs[-1]:.0%}.",
                     {"leaves at": [*(f"exit {place}" for place in range(len(layers))), "final"],
                      "after block": [*map(str, layers), str(blocks - 1)],
                      "share of the MACs": [f"{cost:.1%}" for cost in costs]})


def exit_frontier(lines: Mapping[str, Sequence[tuple[float, float]]],
                  exits: Mapping[str, Sequence[tuple[float, float, float, float]]],
                  dense: tuple[float, float]) -> go.Figure:
    """Accuracy over the mean MACs of a picture, for exit rules and for fixed exits.

    `lines` are rules with their thresholds varied, `exits` are taken by all pictures. A point of a
    line is (MACs, accuracy), one of an exit (MACs, accuracy, low, high), accuracies being shares;
    `dense` is the model without exits. Raises LabError without lines, and on accuracies that are no
    shares.
    """
    _require_shares([point[1] for points in (*lines.values(), *exits.values()) for point in points])
    figure = go.Figure()
    for index, (label, points) in enumerate(lines.items()):
        macs, accuracy = zip(*sorted(points))
        figure.add_trace(go.Scatter(
            x=[value / 1e6 for value in macs], y=[100 * value for value in accuracy], name=label,
            mode="lines+markers",
            line=style(index)["line"], marker=style(index)["marker"] | {"size": 6},
            hovertemplate=f"{label}: %{{x:.1f}} million, %{{y:.1f}} %<extra></extra>"))
    for index, (label, points) in enumerate(exits.items(), start=len(lines)):
        macs, *scores = zip(*points)
        middle, low, high = map(percents, scores)
        figure.add_trace(go.Scatter(
            x=[value / 1e6 for value in macs], y=middle, name=label, mode="markers",
            error_y=error_bars(middle, low, high),
            marker=style(index)["marker"]
            | {"size": 10, "symbol": f"{style(index)['marker']['symbol']}-open"},
            hovertemplate=f"{label}: %{{x:.1f}} million, %{{y:.1f}} %<extra></extra>"))
    figure.add_trace(go.Scatter(x=[dense[0] / 1e6], y=[100 * dense[1]], mode="markers",
                                name="without exits", marker=style(-1)["marker"] | {"size": 12}))
    figure.update_xaxes(title="million MACs a picture").update_yaxes(title="test accuracy (%)")
    return described(figure, "Test accuracy over the mean MACs of a picture: "
                             f"{listed([*lines, *exits])}; one point is the model without exits.",
                     _savings(lines, dense))


def _savings(lines: Mapping[str, Sequence[tuple[float, float]]], dense: tuple[float, float]) -> str:
    """With how many MACs a rule stays within a point of the model without exits."""
    near = [(macs, label) for label, points in lines.items() for macs, accuracy in points
            if accuracy >= dense[1] - 0.01]
    if not near:
        return f"No rule comes within a point of the model without exits, {dense[1]:.1%}."
    macs, label = min(near)
    return (f"Within a point of the model without exits, {label} needs {macs / dense[0]:.0%} of "
            "its MACs.")


def shares_leaving(shares: Mapping[str, Sequence[float]], ends: Sequence[str]) -> go.Figure:
    """Bars of 100 %: of each group the share that leaves at each of `ends`, dark where late.

    Raises LabError where shares do not sum to 1, or are not as many as `ends`.
    """
    require_some("shares_leaving", shares, "[share, ...]")
    for label, row in shares.items():
        if len(row) != len(ends) or abs(sum(row) - 1) > 0.01:
            raise LabError(f"shares_leaving: {label!r} has {len(row)} shares of sum "
                           f"{sum(row):.3f}; give {len(ends)}, one for each end, of sum 1")
    names, figure = [folded(label) for label in shares], go.Figure()
    for place, end in enumerate(ends):
        shade = _SHADES[round(place * (len(_SHADES) - 1) / max(1, len(ends) - 1))]
        figure.add_trace(go.Bar(
            x=[100 * row[place] for row in shares.values()], y=names, orientation="h", name=end,
            marker=dict(color=shade, line=dict(color="#FFFFFF", width=1),
                        pattern=dict(shape=PATTERNS[place % len(PATTERNS)], fillmode="overlay",
                                     solidity=0.15,
                                     fgcolor=_DEEPEST if place < len(ends) / 2 else "#FFFFFF")),
            hovertemplate=f"%{{y}}: %{{x:.1f}} % {end}<extra></extra>"))
    plot = 30 + 14 * len(names) + LINE * sum(1 + name.count("<br>") for name in names)
    figure.update_xaxes(title="share of pictures (%)", range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(barmode="stack", height=plot + 80, margin=dict(t=20, b=60),
                         legend_traceorder="normal")
    columns = {"group": list(shares)}
    for end, column in zip(ends, zip(*shares.values())):
        columns[end] = [f"{share:.1%}" for share in column]
    first = {label: row[0] for label, row in shares.items()}
    most, least = max(first, key=first.get), min(first, key=first.get)
    return described(figure, f"Bars of 100 %, one for each of {listed(shares)}: the share that "
                             f"leaves at {listed(ends)}.",
                     f"The share that leaves at {ends[0]} is largest for {most} "
                     f"({first[most]:.0%}) and smallest for {least} ({first[least]:.0%})."
                     if most != least else f"At {ends[0]} {first[most]:.0%} leave.", columns)


def reliability_diagram(found: Mapping[str, Reliability]) -> go.Figure:
    """Share right over mean confidence, a point for each bin; the grey line is the ideal.

    Larger points stand for more pictures. Raises LabError if there is nothing to draw.
    """
    require_some("reliability_diagram", found, "exit_report(model, data).reliability")
    figure = go.Figure(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", name="confidence is right",
                                  hoverinfo="skip", line=dict(color="#777777", width=1)))
    for index, (label, one) in enumerate(found.items()):
        bins = [place for place, count in enumerate(one.counts) if count]
        size = [7 + 13 * (one.counts[place] / sum(one.counts)) ** 0.5 for place in bins]
        figure.add_trace(go.Scatter(
            x=[100 * one.confidence[place] for place in bins],
            y=[100 * one.right[place] for place in bins],
            name=f"{label}: error {100 * one.error:.1f} points", mode="lines+markers",
            line=style(index)["line"],
            marker=style(index)["marker"] | {"size": size},
            customdata=[one.counts[place] for place in bins],
            hovertemplate=f"{label}: %{{x:.0f}} % sure, %{{y:.0f}} % right, %{{customdata}} "
                          "pictures<extra></extra>"))
    figure.update_xaxes(title="confidence (%)", range=[0, 103])
    figure.update_yaxes(title="right (%)", range=[0, 103])
    errors = {label: 100 * one.error for label, one in found.items()}
    most, least = (end(errors, key=errors.get) for end in (max, min))
    finding = f"The calibration error of {most} is {errors[most]:.1f} points"
    return described(figure, f"Share right over mean confidence, a point a bin: {listed(found)}; "
                             "a grey line is the ideal.",
                     finding + (f", that of {least} {errors[least]:.1f}." if most != least
                                else "."), _bins(found))


def _bins(found: Mapping[str, Reliability]) -> dict[str, list[Any]]:
    """A row for each bin that holds pictures."""
    full = [(label, one, place) for label, one in found.items()
            for place, count in enumerate(one.counts) if count]
    return {"series": [label for label, _, _ in full],
            "bin": [f"up to {(place + 1) / len(one.counts):.0%}" for _, one, place in full],
            "pictures": [one.counts[place] for _, one, place in full],
            "confidence (%)": [100 * one.confidence[place] for _, one, place in full],
            "right (%)": [100 * one.right[place] for _, one, place in full]}


@plain_numbers
def exits_by_threshold(data: Pictures, logits: Tensor, macs: Sequence[int],
                       thresholds: Sequence[float] = THRESHOLDS, count: int = 12) -> Card:
    """A film over thresholds of confidence: at which exit pictures leave, and whether rightly.

    `logits` (exits + 1, N, classes) are `every_logit(model, data)`, `macs` are `exit_macs(model)`.
    Draws up to `count` pictures, at even steps of the first exit's confidence, the least sure
    first, and counts all N; opens at the threshold nearest to 0.9. Raises LabError where the parts
    do not fit, and on thresholds outside 0 to 1.
    """
    if logits.ndim != 3 or logits.shape[:2] != (len(macs), len(data)) or len(macs) < 2:
        raise LabError(f"exits_by_threshold: logits of shape {tuple(logits.shape)} for {len(macs)} "
                       f"MACs and {len(data)} pictures; give every_logit(model, data), of shape "
                       "(exits + 1, pictures, classes), and exit_macs(model)")
    count = min(require_whole("exits_by_threshold", "count", count, 1), len(data))
    logits = logits.detach().cpu()
    right = logits.argmax(2) == data.labels.cpu()
    chosen = _spread(confidence(logits[0]).tolist(), count)
    states, rows = [], []
    for threshold in thresholds:
        taken = exits_taken(Confidence(threshold), logits)
        hits = right.gather(0, taken[None])[0]
        rows.append(_counted(threshold, taken, hits, macs))
        tiles = _tiles(data, chosen, taken, hits, len(macs) - 1)
        states.append(State(f"{threshold:g}", tiles if states else tiles + _stored(data, chosen),
                            _sentence(rows[-1], len(data))))
    start = min(range(len(states)), key=lambda place: abs(thresholds[place] - OPENS))
    low, high = (end(zip(thresholds, rows), key=lambda pair: pair[0])[1] for end in (min, max))
    finding = (f"A threshold of {low['threshold']} gets {low['right']} right for "
               f"{low['share of MACs']} of the full model's MACs, one of {high['threshold']} gets "
               f"{high['right']} right.")
    return film(states, f"{count} pictures, and at which exit each leaves, for several thresholds",
                "threshold", finding, start, table=by_column(rows))


def _spread(sure: Sequence[float], count: int) -> list[int]:
    """The places of `count` values at steps as even as there are, the least first."""
    free, low, high = list(range(len(sure))), min(sure), max(sure)
    chosen = []
    for step in range(count):
        level = low + (high - low) * step / max(1, count - 1)
        chosen.append(min(free, key=lambda place: abs(sure[place] - level)))
        free.remove(chosen[-1])
    return sorted(chosen, key=lambda place: sure[place])


def _counted(threshold: float, taken: Tensor, hits: Tensor, macs: Sequence[int]) -> dict[str, str]:
    """What a threshold does with all pictures, as text."""
    cost = torch.tensor(macs, device="cpu").double()[taken].mean().item()
    left = (taken < len(macs) - 1).double().mean().item()
    return {"threshold": f"{threshold:g}", "left early": f"{left:.1%}",
            "right": f"{hits.double().mean().item():.1%}", "million MACs": f"{cost / 1e6:.1f}",
            "share of MACs": f"{cost / macs[-1]:.0%}"}


def _sentence(row: Mapping[str, str], count: int) -> str:
    return (f"Threshold {row['threshold']}: {row['left early']} of {count:,} pictures "
            f"leave early, {row['right']} of all are right. A picture costs "
            f"{row['million MACs']} million MACs, {row['share of MACs']} of the full model.")


def _tiles(data: Pictures, chosen: Sequence[int], taken: Tensor, hits: Tensor, end: int) -> str:
    """The chosen pictures side by side, each with its frame, its bar and its exit."""
    tiles = [_tile(f"{_key(data)}-{place}", data.class_names[data.labels[place]],
                   int(taken[place]), end, bool(hits[place])) for place in chosen]
    return f'<div class="lab-film-pictures">{"".join(tiles)}</div>'


def _tile(key: str, name: str, exit: int, end: int, right: bool) -> str:
    """A picture as SVG: a full frame where right, a broken one where wrong; a bar to its exit."""
    where = "final" if exit == end else f"exit {exit}"
    mark, verdict = ("\u2713", "right") if right else ("\u2717", "wrong")
    colour, dashes = (COLOURS[2], "none") if right else (COLOURS[1], "12 7")
    return (f'<figure><svg viewBox="0 0 100 115" role="img" style="display:block;max-width:120px" '
            f'aria-label="{escape(name)}, {where}, {verdict}"><use href="#{key}"/>'
            f'<rect x="3" y="3" width="94" height="94" fill="none" stroke-width="6" '
            f'stroke="{colour}" stroke-dasharray="{dashes}"/>'
            f'<rect class="frame" x="1" y="104" width="98" height="10"/>'
            f'<rect x="1" y="104" width="{98 * (exit + 1) / (end + 1):.0f}" height="10" '
            f'style="fill:{COLOURS[0]}"/></svg><figcaption>{mark} {where}</figcaption></figure>')


def _stored(data: Pictures, chosen: Sequence[int]) -> str:
    """The chosen pictures once, for all states to draw by their ids."""
    images = [f'<image id="{_key(data)}-{place}" href="{picture_uri(data.images[place])}" x="4" '
              'y="4" width="92" height="92" style="image-rendering:pixelated"/>'
              for place in chosen]
    return (f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
            f'{"".join(images)}</defs></svg>')


def _key(data: Pictures) -> str:
    """What ids of pictures begin with: two films of a page may be of different data."""
    return "lab-" + "-".join(re.findall("[A-Za-z0-9]+", f"{data.name} {data.split} {len(data)}"))


def _require_shares(accuracies: Sequence[float]) -> None:
    if not accuracies or not all(0 <= value <= 1 for value in accuracies):
        worst = max(accuracies, default=None)
        raise LabError(f"exit_frontier: accuracies up to {worst}; give shares from 0 to 1, at "
                       "least one")
