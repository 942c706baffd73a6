"""Figures made of curves and points: training runs, scores with intervals, cost over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import mean

import plotly.graph_objects as go

from ..errors import plain_numbers
from .display import described, style
from .parts import as_columns, listed, require_some

__all__ = ["cost_over_tokens", "loss_curves", "scores_by_model", "training_curves"]


@plain_numbers
def loss_curves(losses: Mapping[str, Sequence[float]], smooth: int = 9) -> go.Figure:
    """Training loss of one or more runs over steps, as a running mean over `smooth` steps."""
    require_some("loss_curves", losses, "history.loss")
    figure = go.Figure()
    for index, (label, loss) in enumerate(losses.items()):
        means = running_mean(loss, smooth)
        figure.add_trace(go.Scatter(y=[round(value, 4) for value in means], name=label,
                                    mode="lines", **style(index)))
    figure.update_xaxes(title="step").update_yaxes(title="training loss (nats)", rangemode="tozero")
    ends = {label: running_mean(loss, smooth)[-1] for label, loss in losses.items()}
    lowest = min(ends, key=ends.get)
    return described(figure, f"Training loss over steps, a line each: {listed(losses)}.",
                     f"At the end the loss of {lowest} is {ends[lowest]:.2f}"
                     + (", the lowest." if len(ends) > 1 else "."))


def running_mean(values: Sequence[float], smooth: int) -> list[float]:
    """At each place the mean of the last `smooth` values, of fewer at the start."""
    sums = [0.0, *accumulate(values)]
    return [(sums[i + 1] - sums[max(0, i + 1 - smooth)]) / min(smooth, i + 1)
            for i in range(len(values))]


def training_curves(runs: Mapping[str, Sequence[Sequence[tuple[int, float]]]]) -> go.Figure:
    """Validation accuracy over steps: a line a seed, in one colour per label.

    Of each label a list of seeds, each a list of (step, accuracy).
    """
    require_some("training_curves", runs, "[[(step, accuracy), ...], ...]")
    figure = go.Figure()
    for index, (label, seeds) in enumerate(runs.items()):
        for number, points in enumerate(seeds):
            steps, accuracies = zip(*points)
            figure.add_trace(go.Scatter(x=steps, y=[100 * value for value in accuracies],
                                        name=label, legendgroup=label,
                                        showlegend=number == 0, mode="lines+markers",
                                        **style(index)))
    figure.update_xaxes(title="step").update_yaxes(title="validation accuracy (%)")
    ends = {label: _last_mean(seeds) for label, seeds in runs.items()}
    best = max(ends, key=ends.get)
    reached = listed(f"{label} {end:.1%}" for label, end in ends.items())
    return described(figure, "Validation accuracy over training steps, a line a seed. Mean at "
                             f"the end: {reached}.",
                     f"At the end {best} reaches {ends[best]:.1%}, mean of its seeds"
                     + (", the highest." if len(ends) > 1 else "."))


def _last_mean(seeds: Sequence[Sequence[tuple[int, float]]]) -> float:
    """The last accuracy of each seed, on average."""
    return mean(points[-1][1] for points in seeds)


def scores_by_model(scores: Mapping[str, tuple[float, float, float]],
                    runs: Mapping[str, Sequence[float]]) -> go.Figure:
    """Accuracy per model: (mean, low, high) with its interval, single runs as open markers."""
    require_some("scores_by_model", scores, "(mean, low, high)")
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
    figure.update_layout(height=100 + 42 * len(scores))
    columns = {"model": list(scores)} | as_columns(("test accuracy", "low", "high"),
                                                   scores.values(), "{:.1%}")
    return described(figure, f"Test accuracy with its interval: {listed(scores)}.",
                     ranking(scores), columns)


def ranking(scores: Mapping[str, tuple[float, float, float]]) -> str:
    """Which of several is best, in a sentence; the interval says whether that is settled."""
    first, *others = sorted(scores, key=lambda label: -scores[label][0])
    if not others:
        return f"{first} has an accuracy of {scores[first][0]:.1%}."
    unsettled = any(scores[other][2] >= scores[first][1] for other in others)
    return (f"{first} has the highest accuracy, {scores[first][0]:.1%}, {others[-1]} the lowest, "
            f"{scores[others[-1]][0]:.1%}"
            + ("; an interval reaches that of the best." if unsettled else "."))


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
    every = {**lines, **points}
    growth = {label: values[-1] / values[0] for label, values in every.items()}
    most, least = (end(growth, key=growth.get) for end in (max, min))
    return described(figure, f"{unit} over the number of tokens, both axes logarithmic: "
                             f"{listed(every)}.",
                     f"From {tokens[0]:,} to {tokens[-1]:,} tokens, {most} grows "
                     f"{growth[most]:,.0f}-fold"
                     + (f", {least} {growth[least]:,.0f}-fold." if most != least else "."))
