"""Figures made of curves and points: training runs, scores with intervals, cost over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import plotly.graph_objects as go

from ..errors import plain_numbers
from .display import style

__all__ = ["cost_over_tokens", "loss_curves", "scores_by_model", "training_curves"]


@plain_numbers
def loss_curves(losses: Mapping[str, Sequence[float]], smooth: int = 9) -> go.Figure:
    """Training loss of one or more runs over steps, as a running mean over `smooth` steps."""
    figure = go.Figure()
    for index, (label, loss) in enumerate(losses.items()):
        means = running_mean(loss, smooth)
        figure.add_trace(go.Scatter(y=[round(value, 4) for value in means], name=label,
                                    mode="lines", **style(index)))
    figure.update_xaxes(title="step").update_yaxes(title="training loss (nats)", rangemode="tozero")
    return figure


def running_mean(values: Sequence[float], smooth: int) -> list[float]:
    """At each place the mean of the last `smooth` values, of fewer at the start."""
    sums = [0.0, *accumulate(values)]
    return [(sums[i + 1] - sums[max(0, i + 1 - smooth)]) / min(smooth, i + 1)
            for i in range(len(values))]


def training_curves(runs: Mapping[str, Sequence[Sequence[tuple[int, float]]]]) -> go.Figure:
    """Validation accuracy over steps: a line a seed, in one colour per label.

    Of each label a list of seeds, each a list of (step, accuracy).
    """
    figure = go.Figure()
    for index, (label, seeds) in enumerate(runs.items()):
        for number, points in enumerate(seeds):
            steps, accuracies = zip(*points)
            figure.add_trace(go.Scatter(x=steps, y=[100 * value for value in accuracies],
                                        name=label, legendgroup=label,
                                        showlegend=number == 0, mode="lines+markers",
                                        **style(index)))
    figure.update_xaxes(title="step").update_yaxes(title="validation accuracy (%)")
    return figure


def scores_by_model(scores: Mapping[str, tuple[float, float, float]],
                    runs: Mapping[str, Sequence[float]]) -> go.Figure:
    """Accuracy per model: (mean, low, high) with its interval, single runs as open markers."""
    figure = go.Figure()
    for index, (label, (middle, low, high)) in enumerate(scores.items()):
        series = style(index)
        figure.add_trace(go.Scatter(
            x=[100 * middle], y=[label], mode="markers", marker=series["marker"] | {"size": 13},
            showlegend=False,
            error_x=dict(type="data", symmetric=False, array=[100 * (high - middle)],
                         arrayminus=[100 * (middle - low)]),
            hovertemplate="%{x:.2f} %<extra></extra>"))
        figure.add_trace(go.Scatter(
            x=[100 * value for value in runs[label]], y=[label] * len(runs[label]), mode="markers",
            showlegend=False,
            marker=series["marker"] | {"symbol": f"{series['marker']['symbol']}-open", "size": 8},
            hovertemplate="one seed: %{x:.2f} %<extra></extra>"))
    figure.update_xaxes(title="test accuracy (%)").update_yaxes(autorange="reversed")
    return figure.update_layout(height=130 + 60 * len(scores))


def cost_over_tokens(tokens: Sequence[int], lines: Mapping[str, Sequence[float]],
                     points: Mapping[str, Sequence[float]], unit: str) -> go.Figure:
    """Cost over the number of tokens: `lines` by a formula, `points` counted or measured.

    Both axes are logarithmic.
    """
    figure = go.Figure()
    for index, (label, values) in enumerate(lines.items()):
        figure.add_trace(go.Scatter(x=tokens, y=values, name=label, mode="lines",
                                    line=style(index)["line"]))
    for index, (label, values) in enumerate(points.items(), start=len(lines)):
        marker = style(index)["marker"]
        figure.add_trace(go.Scatter(x=tokens, y=values, name=label, mode="markers", marker=marker))
    figure.update_xaxes(title="tokens", type="log", tickvals=list(tokens),
                        ticktext=[str(count) for count in tokens])
    figure.update_yaxes(title=unit, type="log", dtick=1)
    return figure
