"""Figures of early exits: accuracy over mean cost, shares that leave, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from ..dynamic.early_exit.report import Reliability
from ..errors import LabError
from .display import described, style
from .parts import LINE, PATTERNS, error_bars, folded, listed, percents

__all__ = ["exit_frontier", "reliability_diagram", "shares_leaving"]

# dark is deep
_SHADES = ("#FDE725", "#9FB57A", "#5E8C8C", "#3B5F86", "#35406B", "#2A1A4A", "#000000")


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
        return f"No rule comes within a point of the {dense[1]:.1%} that the model has without exits."
    macs, label = min(near)
    return (f"Within a point of the model without exits, {label} needs {macs / dense[0]:.0%} of "
            "its MACs.")


def shares_leaving(shares: Mapping[str, Sequence[float]], ends: Sequence[str]) -> go.Figure:
    """Bars of 100 %: of each group the share that leaves at each of `ends`, dark where late.

    Raises LabError where shares do not sum to 1, or are not as many as `ends`.
    """
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
                                     fgcolor="#000000" if place < len(ends) / 2 else "#FFFFFF")),
            hovertemplate=f"%{{y}}: %{{x:.1f}} % {end}<extra></extra>"))
    plot = 30 + 14 * len(names) + LINE * sum(1 + name.count("<br>") for name in names)
    figure.update_xaxes(title="share of pictures (%)", range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(barmode="stack", height=plot + 80, margin=dict(t=20, b=60),
                         legend_traceorder="normal")
    columns = {"group": list(shares)} | {
        end: [f"{row[place]:.1%}" for row in shares.values()] for place, end in enumerate(ends)}
    first = {label: row[0] for label, row in shares.items()}
    most, least = (end(first, key=first.get) for end in (max, min))
    return described(figure, f"Bars of 100 %, one for each of {listed(shares)}: the share that "
                             f"leaves at {listed(ends)}.",
                     f"At {ends[0]} leave {first[most]:.0%} of {most}"
                     + (f", {first[least]:.0%} of {least}." if most != least else "."), columns)


def reliability_diagram(found: Mapping[str, Reliability]) -> go.Figure:
    """Share right over mean confidence, a point for each bin; the grey line is the ideal.

    Larger points stand for more pictures. Raises LabError if there is nothing to draw.
    """
    if not found:
        raise LabError("reliability_diagram: nothing to draw; give exit_report(model, "
                       "data).reliability under a name")
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
    return described(figure, f"Share right over mean confidence, a point a bin: {listed(found)}; "
                             "a grey line is the ideal.",
                     f"The calibration error of {most} is {errors[most]:.1f} points"
                     + (f", of {least} {errors[least]:.1f}." if most != least else "."))


def _require_shares(accuracies: Sequence[float]) -> None:
    if not accuracies or not all(0 <= value <= 1 for value in accuracies):
        worst = max(accuracies, default=None)
        raise LabError(f"exit_frontier: accuracies up to {worst}; give shares from 0 to 1, at "
                       "least one")
