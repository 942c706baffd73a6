"""Figures of distillation: soft labels, directions of a divergence, gains of objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, require_choice, require_range
from ..training import mean_interval
from .display import COLOURS, described, style
from .parts import BARE, LINE, folded, listed
from .pictures import to_bytes

__all__ = ["directions", "gains", "soft_labels"]

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def soft_labels(image: Tensor, logits: Tensor, class_names: Sequence[str],
                temperatures: Sequence[float] = TEMPERATURES) -> go.Figure:
    """Probabilities of the classes of one picture, sorted, with a slider for the temperature.

    `image` is (3, H, W) in [0, 1], `logits` (classes,). The slider needs no kernel: one frame for
    each temperature, and begins at temperature 1, or the first if 1 is not among them. Raises
    LabError on logits of another number of classes, and on a temperature that is not above 0.
    """
    if logits.shape != (len(class_names),):
        raise LabError(f"soft_labels: logits of shape {tuple(logits.shape)} for {len(class_names)} "
                       "classes; give those of one picture: model(inputs)[0]")
    for temperature in temperatures:
        require_range("soft_labels", "temperature", temperature, 1e-6)
    order = logits.argsort(descending=True)
    names = [class_names[index] for index in order.tolist()]
    shares = [(logits[order] / temperature).softmax(0).tolist() for temperature in temperatures]
    start = temperatures.index(1.0) if 1.0 in temperatures else 0
    figure = make_subplots(1, 2, column_widths=[0.66, 0.34], horizontal_spacing=0.04)
    figure.add_trace(_bars(shares[start], names), 1, 1)
    figure.add_trace(go.Image(z=to_bytes(image, 2), hoverinfo="skip"), 1, 2)
    figure.frames = [go.Frame(name=_label(value), data=[_bars(share, names)], traces=[0])
                     for value, share in zip(temperatures, shares)]
    figure.update_xaxes(title="probability (%)", range=[0, 125], tickvals=[0, 50, 100], col=1)
    figure.update_yaxes(autorange="reversed", col=1)
    figure.update_xaxes(**BARE, col=2).update_yaxes(**BARE, col=2)
    return figure.update_layout(height=225 + 26 * len(names), margin=dict(t=20, b=155),
                                showlegend=False, sliders=[_slider(temperatures, start)])


def _bars(shares: Sequence[float], names: Sequence[str]) -> go.Bar:
    percent = [100 * share for share in shares]
    return go.Bar(x=percent, y=list(names), orientation="h",
                  text=[_percent(value) for value in percent],
                  textposition="outside", cliponaxis=False, marker=dict(color=COLOURS[0]),
                  hovertemplate="%{y}: %{x:.3g} %<extra></extra>")


def _percent(value: float) -> str:
    """In full down to a hundredth of a percent, then by its power of ten."""
    return f"{value:.2f} %" if value >= 0.01 else f"{value:.0e} %"


def _label(temperature: float) -> str:
    return f"{temperature:g}"


def _slider(temperatures: Sequence[float], start: int) -> dict[str, Any]:
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True},
           "transition": {"duration": 0}}
    steps = [dict(method="animate", label=_label(value), args=[[_label(value)], now])
             for value in temperatures]
    return dict(active=start, steps=steps, currentvalue=dict(prefix="temperature "), pad=dict(t=75),
                x=0, len=1)


def directions(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Distributions over the same ordered classes, one line each: probabilities that sum to 1."""
    figure = go.Figure()
    for index, (label, shares) in enumerate(curves.items()):
        figure.add_trace(go.Scatter(y=[100 * share for share in shares], name=label,
                                    mode="lines+markers",
                                    hovertemplate="class %{x}: %{y:.1f} %<extra></extra>",
                                    **style(index)))
    figure.update_xaxes(title="class", dtick=2)
    figure.update_yaxes(title="probability (%)", rangemode="tozero")
    return described(figure, f"Probabilities over the classes, a line each: {listed(curves)}.")


def gains(rows: Mapping[str, Mapping[str, Any]], baseline: str = "labels alone") -> go.Figure:
    """Test accuracy of each objective: mean and 95 % interval, and each run as a marker.

    `rows` is that of a stored result: label -> {"leaf", "runs": [{"test"}, ...]}, at least two runs
    each. Colour and marker tell the leaf of the survey; a line and a band mark the `baseline`.
    Raises LabError if that is no row.
    """
    require_choice("gains", "baseline", baseline, tuple(rows))
    scores = {}
    for label, row in rows.items():
        scores[label] = [100 * run["test"] for run in row["runs"]]
    leaves = list(dict.fromkeys(row["leaf"] for row in rows.values()))
    middle, low, high = mean_interval(scores[baseline])
    figure = go.Figure()
    figure.add_vrect(x0=low, x1=high, fillcolor="#000000", opacity=0.08, line_width=0)
    figure.add_vline(x=middle, line=dict(color="#000000", width=1, dash="dash"))
    for index, leaf in enumerate(leaves):
        here = {label: scores[label] for label, row in rows.items() if row["leaf"] == leaf}
        _add_leaf(figure, index, leaf, here, baseline)
    names = [folded(label, 20) for label in rows]
    figure.update_xaxes(title="test accuracy (%)", nticks=6, tickangle=0)
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=list(rows),
                        tickvals=list(rows), ticktext=names)
    plot = (1 + max(name.count("<br>") for name in names)) * LINE * len(rows) + 10 * len(rows) + 20
    figure.update_layout(height=plot + 80, margin=dict(t=20, b=60))
    means = {label: mean_interval(values) for label, values in scores.items()}
    columns = {"objective": list(rows), "leaf": [row["leaf"] for row in rows.values()]} | {
        name: [mean[place] for mean in means.values()]
        for place, name in enumerate(("test accuracy (%)", "low", "high"))}
    best = max(means, key=lambda label: means[label][0])
    said = (f"{best} is best: {means[best][0] - middle:+.1f} points from {baseline}, which has "
            f"{middle:.1f} %" + ("." if means[best][1] > high else "; the intervals overlap."))
    if best == baseline:
        said = f"Nothing is above {baseline}, {middle:.1f} %."
    return described(figure, f"Test accuracy of {len(rows)} objectives with intervals, each seed "
                             f"as an open marker; a line and a band mark {baseline}.", said, columns)


def _add_leaf(figure: go.Figure, index: int, leaf: str, scores: Mapping[str, Sequence[float]],
              baseline: str) -> None:
    """Means with intervals of a leaf's rows, named in the legend, and their single runs."""
    series = style(index)["marker"]
    means = {label: mean_interval(values) for label, values in scores.items()}
    middles, lows, highs = zip(*means.values())
    figure.add_trace(go.Scatter(
        x=middles, y=list(means), mode="markers", marker=series | {"size": 12}, legendgroup=leaf,
        name=folded(baseline if leaf == "none" else leaf, 20),
        error_x=dict(type="data", symmetric=False,
                     array=[high - middle for high, middle in zip(highs, middles)],
                     arrayminus=[middle - low for low, middle in zip(lows, middles)]),
        hovertemplate="%{y}: %{x:.2f} %<extra></extra>"))
    points = [(value, label) for label, values in scores.items() for value in values]
    figure.add_trace(go.Scatter(
        x=[value for value, _ in points], y=[label for _, label in points], mode="markers",
        showlegend=False,
        legendgroup=leaf, marker=series | {"symbol": f"{series['symbol']}-open", "size": 7},
        hovertemplate="%{y}, one seed: %{x:.2f} %<extra></extra>"))
