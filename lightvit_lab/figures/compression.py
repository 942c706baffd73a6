"""Figures of compressed models: trade-offs, stages of a recipe, four columns of cost.

Rows are those of the stored results of pruning and low rank.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import mean
from typing import Any

import plotly.graph_objects as go

from ..errors import LabError, require_choice
from ..training import mean_interval
from .display import described, style
from .parts import LINE, as_columns, error_bars, folded, listed, require_some

__all__ = ["four_columns", "stages", "trade_off"]

Row = Mapping[str, Any]
# each stage's place in `style`
STAGES = {"off the shelf": 0, "one-shot": 0, "compensated": 1, "fine-tuned": 2,
          "fine-tuned, 900 steps": 3}
SCORE = ("test", "test_low", "test_high")
COSTS = {"macs": ("million MACs for one picture", 1e6),
         "latency_ms": ("milliseconds, measured", 1.0),
         "latency_1_ms": ("milliseconds, one picture at a time", 1.0),
         "bytes": ("KiB on disk", 2**10), "params": ("thousand parameters", 1e3)}
# columns of a data table: a row's key, its head, the format of its value in the units of COSTS
_HEADS = {"label": ("recipe", "{}"), "stage": ("stage", "{}"), "tokens": ("tokens", "{:.0f}"),
          "macs": ("million MACs", "{:.1f}"), "latency_ms": ("ms", "{:.3g}"),
          "latency_1_ms": ("ms, one picture", "{:.3g}"), "bytes": ("KiB", "{:,.0f}"),
          "params": ("thousand parameters", "{:,.0f}"), "recipe": ("made by", "{}")}
_BUTTONS = {"macs": "MACs", "latency_ms": "time", "latency_1_ms": "time of one", "bytes": "bytes",
            "params": "parameters"}


def score(row: Row) -> tuple[float, float, float]:
    """Accuracy of a row with its interval, in percent, (mean, low, high).

    Of a stored row, or of one that `sensitivity` returns.
    """
    keys = SCORE if "test" in row else ("accuracy", "low", "high")
    return tuple(100 * row[key] for key in keys)


def by_recipe(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each label and stage, over its seeds.

    Its scores and costs are means, and the interval is that of the mean where seeds differ.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["label"], row["stage"]), []).append(row)
    return [_over_seeds(group) for group in groups.values()]


def _over_seeds(group: Sequence[Row]) -> dict[str, Any]:
    first, tests = group[0], [row["test"] for row in group]
    if len(group) == 1:
        return dict(first)
    drawn = len({*tests}) > 1             # a seed that changes nothing leaves that of the pictures
    test = dict(zip(SCORE, mean_interval(tests[:10], within=(0, 1)))) if drawn else {}
    costs = {cost: mean(map(itemgetter(cost), group)) for cost in COSTS if cost in first}
    return {**first, **test, **costs}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, score) that no other point beats, cheapest first.

    One point beats another if it costs less and is as good, or is better at the same cost.
    """
    front, best = [], float("-inf")
    for place in sorted(range(len(points)),
                        key=lambda index: (points[index][0], -points[index][1])):
        if points[place][1] > best:
            front.append(place)
            best = points[place][1]
    return front


def trade_off(rows: Sequence[Row], dense: Row,
              costs: Sequence[str] = ("macs", "latency_ms", "bytes")) -> go.Figure:
    """Accuracy over cost, a point a recipe and stage, with the line that no recipe beats.

    Hovering shows the recipe. `rows` and `dense` are those of a stored result, or rows with
    "stage", "label", "recipe", a test accuracy and the `costs`, keys of COSTS: a button for each,
    without a kernel. Raises LabError on others, and without rows.
    """
    for cost in costs:
        require_choice("trade_off", "cost", cost, COSTS)
    if not rows:
        raise LabError('trade_off: no rows; give results.load("pruning_cifar10").data["rows"]')
    points = [{**dense, "label": "original model", "recipe": "", "stage": "original model"},
              *by_recipe(rows)]
    stages = [*dict.fromkeys(row["stage"] for row in points)]
    groups = [_of_stage(points, stage) for stage in stages]
    figure = go.Figure([_front(points, costs[0]), *(_points(group, costs[0]) for group in groups)])
    figure.update_xaxes(title=COSTS[costs[0]][0]).update_yaxes(title="test accuracy (%)")
    buttons = [_button(cost, points, groups) for cost in costs] if len(costs) > 1 else []
    menu = dict(type="buttons", direction="right", buttons=buttons, showactive=True)
    figure.update_layout(updatemenus=[menu] if buttons else [])
    columns = _table(points, "tokens", *costs, "recipe")
    return described(figure, "Test accuracy over cost, a point for each recipe and stage, with a "
                             "line through those that no other beats; buttons choose among "
                             f"{listed(map(_BUTTONS.get, costs))}.",
                     _cheapest(points, costs[0]), columns)


def _cheapest(points: Sequence[Row], cost: str) -> str:
    """What the front begins with, next to the original model, which comes first."""
    whole, first = points[0], points[pareto_front([(row[cost], row["test"])
                                                   for row in points])[0]]
    return (f"The front begins at {first[cost] / whole[cost]:.0%} of the original "
            f"model's {_BUTTONS[cost]} with {first['test']:.1%}; the original model has "
            f"{whole['test']:.1%}.")


def _table(rows: Sequence[Row], *keys: str) -> dict[str, list[str]]:
    """Recipe, stage and accuracy with its interval, then those of `keys` that rows have."""
    scores = as_columns(("accuracy (%)", "low", "high"), map(score, rows), "{:.1f}")
    return _columns(rows, ("label", "stage")) | scores | _columns(rows, keys)


def _columns(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[str]]:
    """Columns of these keys as text under their heads; those that no row has are left out."""
    columns = {}
    for key in keys:
        head, form = _HEADS[key]
        divisor = COSTS[key][1] if key in COSTS else None
        columns[head] = [form.format(row[key] / divisor if divisor else row[key])
                         if row.get(key) is not None else "" for row in rows]
    return {head: column for head, column in columns.items() if any(column)}


def _of_stage(rows: Sequence[Row], stage: str) -> list[Row]:
    return [row for row in rows if row["stage"] == stage]


def _costs(rows: Sequence[Row], cost: str) -> list[float]:
    return [row[cost] / COSTS[cost][1] for row in rows]


def _accuracies(rows: Sequence[Row]) -> list[float]:
    return [score(row)[0] for row in rows]


def _front_line(points: Sequence[Row], cost: str) -> tuple[list[float], list[float]]:
    pairs = list(zip(_costs(points, cost), _accuracies(points)))
    front = pareto_front(pairs)
    return [pairs[place][0] for place in front], [pairs[place][1] for place in front]


def _front(points: Sequence[Row], cost: str) -> go.Scatter:
    x, y = _front_line(points, cost)
    return go.Scatter(x=x, y=y, mode="lines", line=dict(color="#777777", width=2, shape="hv"),
                      hoverinfo="skip", name="nothing is cheaper and as good")


def _points(group: Sequence[Row], cost: str) -> go.Scatter:
    return go.Scatter(x=_costs(group, cost), y=_accuracies(group), mode="markers",
                      marker=_marker(group[0]["stage"]), name=group[0]["stage"],
                      customdata=[_hover_text(row) for row in group],
                      hovertemplate="%{customdata}<br>%{x:.4g}<extra></extra>")


def _marker(stage: str) -> dict[str, Any]:
    """The marker of a stage, the same in every figure; the original model's is black."""
    return style(STAGES.get(stage, -1))["marker"]


def _hover_text(row: Row) -> str:
    """What a point says when one points at it: label, recipe, accuracy with its interval."""
    middle, low, high = score(row)
    return "<br>".join([*textwrap.wrap(f"{row['label']}, {row['stage']}", 38),
                        *textwrap.wrap(row["recipe"], 38),
                        f"{middle:.1f} % ({low:.1f} to {high:.1f})"])


def _button(cost: str, points: Sequence[Row], groups: Sequence[Sequence[Row]]) -> dict[str, Any]:
    x, y = _front_line(points, cost)
    xs = [x, *(_costs(group, cost) for group in groups)]
    ys = [y, *map(_accuracies, groups)]
    return dict(label=_BUTTONS[cost], method="update",
                args=[{"x": xs, "y": ys}, {"xaxis.title.text": COSTS[cost][0]}])


def stages(rows: Sequence[Row], dense: Row) -> go.Figure:
    """Accuracy of each recipe at each of its STAGES; a line and a band mark the original model.

    `rows` as in `trade_off`; their labels name the lines. Raises LabError without rows, or on a
    stage that is none of STAGES.
    """
    if not rows:
        raise LabError('stages: no rows; give results.load("pruning_cifar10").data["rows"]')
    for row in rows:
        require_choice("stages", "stage", row["stage"], STAGES)
    found, (middle, low, high) = by_recipe(rows), score(dense)
    names = [*dict.fromkeys(row["label"] for row in found)]
    figure = go.Figure()
    figure.add_vrect(x0=low, x1=high, fillcolor="#000000", opacity=0.08, line_width=0)
    figure.add_vline(x=middle, line=dict(color="#000000", width=1, dash="dash"))
    for stage in STAGES:
        if here := _of_stage(found, stage):
            figure.add_trace(_stage(here, stage))
    labels = [folded(name) for name in names]
    figure.update_xaxes(title="test accuracy (%)", nticks=5, tickangle=0)
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names,
                        tickvals=names, ticktext=labels, tickfont_size=12)
    plot = ((1 + max(label.count("<br>") for label in labels)) * LINE * len(names)
            + 14 * len(names) + 30)
    figure.update_layout(height=plot + 80, margin=dict(t=20, b=60))
    columns = _table(found, "tokens")
    return described(figure, f"Test accuracy of each recipe, {listed(_present(found))}, with "
                             "intervals; a line and a band mark the original model.",
                     _changes(found, dense), columns)


def _present(rows: Sequence[Row]) -> list[str]:
    return [stage for stage in STAGES if _of_stage(rows, stage)]


def _changes(rows: Sequence[Row], dense: Row) -> str:
    """What the last stage changes from the first, at the least and at the most."""
    first, *_, last = [*_present(rows), ""] if len(_present(rows)) == 1 else _present(rows)
    before, after = _by_label(rows, first), _by_label(rows, last)
    changes = sorted((after[label] - before[label], label) for label in after if label in before)
    if not changes:
        best, label = max((score(row)[0], row["label"]) for row in rows)
        return f"{label} keeps most: {best:.1f} % of {score(dense)[0]:.1f} %."
    if len(changes) == 1:
        return f"From {first} to {last}, {changes[0][1]} changes by {changes[0][0]:+.1f} points."
    return (f"From {first} to {last}, accuracy changes by {changes[0][0]:+.1f} points "
            f"({changes[0][1]}) to {changes[-1][0]:+.1f} ({changes[-1][1]}).")


def _by_label(rows: Sequence[Row], stage: str) -> dict[str, float]:
    return {row["label"]: score(row)[0] for row in _of_stage(rows, stage)}


def _stage(rows: Sequence[Row], stage: str) -> go.Scatter:
    middle, low, high = zip(*map(score, rows))
    return go.Scatter(x=middle, y=[row["label"] for row in rows], mode="markers", name=stage,
                      marker=_marker(stage) | {"size": 11}, error_x=error_bars(middle, low, high),
                      hovertemplate=f"%{{y}}, {stage}: %{{x:.1f}} %<extra></extra>")


def four_columns(models: Mapping[str, Row]) -> go.Figure:
    """Zeros, bytes on disk, MACs and measured time of each model, as a table of cells.

    A model is a row with "zeros" (share of its linear layers' weights), "bytes", "macs" and
    "latency_ms"; the first is the original model. The darker a cell, the less is left of the first
    row's: of non-zero weights, bytes, MACs, time.
    """
    require_some("four_columns", models, "a row of a stored result")
    rows = list(models.values())
    first = rows[0]
    cells = [[1 - row["zeros"], row["bytes"] / first["bytes"], row["macs"] / first["macs"],
              row["latency_ms"] / first["latency_ms"]] for row in rows]
    texts = [[f"{row['zeros']:.0%}", f"{row['bytes'] / 2**10:,.0f}", f"{row['macs'] / 1e6:.1f}",
              f"{row['latency_ms']:.3g}"] for row in rows]
    heads = ["zeros<br>(share)", "on disk<br>(KiB)", "MACs<br>(million)", "time<br>(ms)"]
    remaining = [list(map("{:.0%} left".format, line)) for line in cells]
    figure = go.Figure(go.Heatmap(
        z=cells, x=heads, y=[folded(name) for name in models], text=texts, texttemplate="%{text}",
        zmin=0, zmax=1.05, xgap=4, ygap=4, colorscale="Cividis", showscale=False,
        customdata=remaining,
        hovertemplate="%{y}: %{text} (%{customdata})<extra></extra>"))
    figure.update_xaxes(side="top", showgrid=False, ticks="", fixedrange=True, tickangle=0,
                        tickfont_size=11)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", fixedrange=True,
                        tickfont_size=11)
    figure.update_layout(height=70 + 46 * len(rows), margin=dict(l=10, r=10, t=55, b=10))
    columns = {"model": list(models)} | {
        head.replace("<br>", " "): list(column) for head, column in zip(heads, zip(*texts))}
    return described(figure, "A table of cells: zeros, bytes on disk, MACs and time of "
                             f"{listed(models)}; the darker, the less is left.",
                     _fewest(list(models), cells), columns)


def _fewest(names: Sequence[str], cells: Sequence[Sequence[float]]) -> str:
    """Which model has the fewest MACs, and what that does to its time."""
    least = min(range(len(names)), key=lambda place: cells[place][2])
    if cells[least][2] >= 1:
        return f"None has fewer MACs than {names[0]}."
    return (f"{names[least]} has the fewest MACs, {cells[least][2]:.0%} of those of {names[0]}; "
            f"its time is {cells[least][3]:.0%}.")
