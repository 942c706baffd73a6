"""Figures of cost: times with intervals, MACs and milliseconds, roofline, counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Protocol

import plotly.graph_objects as go

from .display import described, style
from .parts import PATTERNS, as_columns, listed, logarithmic, looked_up, require_some

__all__ = ["errors_by_counter", "macs_and_time", "roofline", "times_by_model"]


class HasLatency(Protocol):
    """What a timing needs to be drawn: milliseconds, and the two ends of their interval."""

    latency_ms: float
    interval_ms: tuple[float, float]


def times_by_model(times: Mapping[str, HasLatency]) -> go.Figure:
    """Median milliseconds per candidate as bars, each with its 95 % interval."""
    require_some("times_by_model", times, "its numbers")
    figure = go.Figure()
    for index, (label, one) in enumerate(times.items()):
        low, high = one.interval_ms
        figure.add_trace(go.Bar(
            x=[one.latency_ms], y=[label], orientation="h", showlegend=False,
            marker=dict(color=style(index)["marker"]["color"]),
            error_x=dict(type="data", symmetric=False, array=[high - one.latency_ms],
                         arrayminus=[one.latency_ms - low]),
            hovertemplate="%{x:.2f} ms<extra></extra>"))
    figure.update_xaxes(title="milliseconds, with 95 % interval", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=100 + 36 * len(times))
    ends = {label: (one.latency_ms, *one.interval_ms) for label, one in times.items()}
    columns = {"candidate": list(ends)} | as_columns(("milliseconds", "low", "high"),
                                                     ends.values(), "{:.2f}")
    return described(figure, f"Median time with its interval, a bar each: {listed(ends)}.",
                     _fastest(ends), columns)


def _fastest(ends: Mapping[str, tuple[float, float, float]]) -> str:
    """Which of several (median, low, high) is the shortest; intervals say if that is settled."""
    first, *others = sorted(ends, key=lambda label: ends[label][0])
    if not others:
        return f"{first} takes {ends[first][0]:.2f} ms."
    last, doubt = others[-1], any(ends[label][1] <= ends[first][2] for label in others)
    return (f"{first} takes the shortest time, {ends[first][0]:.2f} ms, {last} the longest, "
            f"{ends[last][0]:.2f} ms" + ("; the shortest intervals overlap." if doubt else "."))


def errors_by_counter(errors: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Error of each counter on each model, as a share of the true count: numbered bars."""
    require_some("errors_by_counter", errors, "its numbers")
    figure = go.Figure()
    for index, (counter, by_model) in enumerate(errors.items()):
        percent = [100 * value for value in by_model.values()]
        figure.add_trace(go.Bar(
            x=percent, y=list(by_model), name=counter, orientation="h",
            text=[f"{value:+.1f} %" for value in percent],
            textposition="outside", cliponaxis=False, hovertemplate="%{x:+.1f} %<extra></extra>",
            marker=dict(color=style(index)["marker"]["color"],
                        pattern=dict(shape=PATTERNS[index % len(PATTERNS)]))))
    percents = [100 * value for by_model in errors.values() for value in by_model.values()]
    room = 0.15 * (max([0, *percents]) - min([0, *percents]) or 1)    # for numbers beside bars
    figure.update_xaxes(title="error of the count (%)",
                        range=[min([0, *percents]) - room, max([0, *percents]) + room])
    figure.update_yaxes(autorange="reversed")
    models = list(dict.fromkeys(model for by_model in errors.values() for model in by_model))
    figure.update_layout(height=140 + 34 * len(models) * len(errors),
                         legend=dict(traceorder="normal"))
    columns = {"model": models} | {counter: looked_up(by_model, models, "{:+.1%}")
                                   for counter, by_model in errors.items()}
    return described(figure, "Error of each counter in percent of the true count, a bar for each "
                             f"model: {listed(errors)}.", _furthest(errors), columns)


def _furthest(errors: Mapping[str, Mapping[str, float]]) -> str:
    """How many counts are too low, and the one that is most wrong."""
    every = [(value, counter, model) for counter, by_model in errors.items()
             for model, value in by_model.items()]
    value, counter, model = max(every, key=lambda one: abs(one[0]))
    return (f"Counts that are too low: {sum(one[0] < 0 for one in every)} of {len(every)}; the "
            f"furthest off is that of {counter} on {model}, {value:+.1%}.")


def macs_and_time(points: Mapping[str, tuple[float, float]],
                  here: Mapping[str, float] | None = None) -> go.Figure:
    """A point per model: MACs of one image and milliseconds, both logarithmic.

    `here` are milliseconds on this machine. Points are numbered from 1 in the given order, since
    names would lie on top of each other; hovering shows the name.
    """
    require_some("macs_and_time", points, "its numbers")
    numbers = {name: number for number, name in enumerate(points, start=1)}
    series = {"stored run": {name: ms for name, (_, ms) in points.items()}}
    if here:
        series["your machine"] = dict(here)
    figure = go.Figure()
    for index, (label, times) in enumerate(series.items()):
        figure.add_trace(go.Scatter(
            x=[points[name][0] / 1e9 for name in times], y=list(times.values()), name=label,
            customdata=list(times),
            text=[str(numbers[name]) for name in times], mode="markers+text",
            textfont=dict(size=12),
            textposition=("top center", "bottom center")[index], marker=style(index)["marker"],
            showlegend=bool(here),
            hovertemplate="%{customdata}: %{x:.2f} GMACs, %{y:.1f} ms<extra></extra>"))
    logarithmic(figure, [x / 1e9 for x, _ in points.values()],
                 [ms for times in series.values() for ms in times.values()])
    figure.update_xaxes(title="GMACs for one picture").update_yaxes(title="milliseconds")
    figure.update_layout(height=360)
    lines = listed(f"{label} ({len(times)} points)" for label, times in series.items())
    columns = {"model": [f"{number} {name}" for name, number in numbers.items()],
               "GMACs": [f"{macs / 1e9:.3f}" for macs, _ in points.values()]}
    columns |= {f"ms, {label}": looked_up(times, points, "{:.1f}")
                for label, times in series.items()}
    return described(figure, "Milliseconds against MACs of one picture, both logarithmic, a "
                             f"numbered point for each model: {lines}.",
                     reversed_sentence(points.values()), columns)


def reversed_sentence(points: Iterable[tuple[float, float]]) -> str:
    """In how many pairs of (MACs, time) more of the one is less of the other; "" without pairs."""
    pairs = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0]]
    slower = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in pairs)
    return (f"The model with fewer MACs takes longer in {slower} of {len(pairs)} pairs of models."
            if pairs else "")


def roofline(peak_flops: float, bandwidth: float,
             layers: Mapping[str, Sequence[tuple[str, float, float]]]) -> go.Figure:
    """The smaller of peak and intensity times bandwidth, and each model's layers below it.

    `peak_flops` in FLOP/s, `bandwidth` in bytes/s; a layer is (name, FLOPs per byte, FLOP/s
    reached).
    """
    intensities = [intensity for rows in layers.values() for _, intensity, _ in rows]
    ridge = peak_flops / bandwidth
    ends = (min([*intensities, ridge]) / 2, max([*intensities, ridge]) * 2)
    corners = [ends[0], ridge, ends[1]]
    figure = go.Figure(go.Scatter(x=corners,
                                  y=[min(peak_flops, x * bandwidth) / 1e9 for x in corners],
                                  mode="lines",
                                  name="attainable", line=dict(color="#777777", width=3),
                                  hoverinfo="skip"))
    for index, (label, rows) in enumerate(layers.items()):
        names, x, y = zip(*rows)
        figure.add_trace(go.Scatter(x=x, y=[value / 1e9 for value in y], text=names, name=label,
                                    mode="markers",
                                    marker=style(index)["marker"] | {"size": 8, "opacity": 0.8},
                                    hovertemplate="%{text}: %{x:.1f} FLOP/byte, %{y:.1f} "
                                                  "GFLOP/s<extra></extra>"))
    reached = [value / 1e9 for rows in layers.values() for *_, value in rows]
    logarithmic(figure, list(ends), [*reached, peak_flops / 1e9])
    figure.update_xaxes(title="FLOPs for each byte moved").update_yaxes(title="GFLOP/s")
    return described(figure, "GFLOP/s against FLOPs for each byte moved, both logarithmic: the "
                             "roof, a slope that turns flat, and a point for each part of "
                             f"{listed(layers)}.", _memory_bound(ridge, layers), _layers(layers))


def _memory_bound(ridge: float, layers: Mapping[str, Sequence[tuple[str, float, float]]]) -> str:
    counts = []
    for label, rows in layers.items():
        left = sum(intensity < ridge for _, intensity, _ in rows)
        counts.append(f"{left} of the {len(rows)} parts of {label}")
    return f"Memory holds back what lies left of the corner: {listed(counts)}."


def _layers(layers: Mapping[str, Sequence[tuple[str, float, float]]]) -> dict[str, list[str]]:
    """The table of a roofline: a row for each part of a model."""
    rows = [(name, label, f"{intensity:.1f}", f"{reached / 1e9:.1f}")
            for label, layer in layers.items() for name, intensity, reached in layer]
    return dict(zip(("part", "model", "FLOP/byte", "GFLOP/s"), map(list, zip(*rows))))
