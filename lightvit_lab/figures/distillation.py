"""Figures of distillation: soft labels, directions of a divergence, gains of objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from ..errors import LabError, require_choice, require_range
from ..training import mean_interval, paired_interval
from .card import Card
from .display import COLOURS, described, style
from .film import State, film, pictures
from .parts import LINE, folded, listed, require_some

__all__ = ["directions", "gains", "soft_labels"]

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
OPENS = 4.0             # the temperature at which the wrong classes can be seen
MOST = 12               # classes that are drawn
PERCENT = (0, 100)      # between which an accuracy lies
_BAR, _LETTER, _LONGEST = 24, 7, 22     # pixels of a bar and of a letter, letters of a name


def soft_labels(image: Tensor, logits: Tensor, class_names: Sequence[str],
                temperatures: Sequence[float] = TEMPERATURES) -> Card:
    """A film over temperatures: a picture and the probabilities of its classes, likeliest first.

    `image` is (3, H, W) in [0, 1], `logits` (classes,). It opens at the temperature nearest to 4
    and draws the twelve likeliest classes. Raises LabError on logits of another number of classes,
    and on a temperature that is not above 0.
    """
    if logits.shape != (len(class_names),) or len(class_names) < 2:
        raise LabError(f"soft_labels: logits of shape {tuple(logits.shape)} for {len(class_names)} "
                       "classes; give those of one picture, of two classes at least: "
                       "model(inputs)[0]")
    for temperature in temperatures:
        require_range("soft_labels", "temperature", temperature, 1e-6)
    ordered, order = logits.detach().cpu().double().sort(descending=True)
    names = [class_names[index] for index in order.tolist()]
    shares = [(ordered / one).softmax(0) for one in temperatures]
    shown = pictures([image], [names[0]])
    states = [State(f"{one:g}", _beside(shown, _bars(share.tolist(), names, one)),
                    _caption(share, names, one)) for one, share in zip(temperatures, shares)]
    start = min(range(len(states)), key=lambda place: abs(temperatures[place] - OPENS))
    plain, opened = (_percent(share[1]) for share in (ordered.softmax(0), shares[start]))
    finding = (f"The teacher says {names[0]}; next comes {names[1]}, with {plain} at "
               f"temperature 1 and {opened} at temperature {temperatures[start]:g}.")
    columns = {"class": names} | {f"temperature {one:g} (%)": (100 * share).tolist()
                                  for one, share in zip(temperatures, shares)}
    return film(states, "Probabilities of the classes of one picture, for several temperatures",
                "temperature", finding, start, table=columns)


def _caption(shares: Tensor, names: Sequence[str], temperature: float) -> str:
    """The first choice and the entropy, in bits, of what is said at a temperature."""
    entropy = torch.special.entr(shares).sum().item() / math.log(2)
    return (f"At temperature {temperature:g} the teacher gives {names[0]} {_percent(shares[0])} "
            f"and {names[1]} {_percent(shares[1])}; the entropy is {entropy:.2f} of at most "
            f"{math.log2(len(names)):.2f} bits.")


def _beside(picture: str, chart: str) -> str:
    """A picture and a chart side by side, one below the other on phones."""
    return (f'<div class="lab-card-charts"><div style="flex:0 1 140px">{picture}</div>'
            f"{chart}</div>")


def _bars(shares: Sequence[float], names: Sequence[str], temperature: float) -> str:
    """Horizontal bars from 0 to 1 as SVG, each with its name and its percent."""
    shares, names = shares[:MOST], [
        name if len(name) <= _LONGEST else f"{name[:_LONGEST - 1]}\u2026" for name in names[:MOST]]
    left = 10 + _LETTER * max(map(len, names))
    rows = [f'<text x="{left - 6}" y="{_BAR * row + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{_BAR * row + 3}" width="{150 * share:.2f}" height="{_BAR - 7}" '
            f'style="fill:{COLOURS[0]}"/><text x="{left + 150 * share + 5:.1f}" '
            f'y="{_BAR * row + 16}">{_percent(share)}</text>'
            for row, (name, share) in enumerate(zip(names, shares))]
    return (f'<svg class="lab-card-chart" viewBox="0 0 {left + 215} {_BAR * len(rows)}" role="img" '
            f'style="flex-basis:280px" aria-label="Probabilities at temperature {temperature:g}">'
            f'<path class="frame" d="M{left} 0V{_BAR * len(rows)}"/>{"".join(rows)}</svg>')


def _percent(share: float) -> str:
    """In full down to a hundredth of a percent, then by its power of ten."""
    value = 100 * float(share)
    return f"{value:.2f}%" if value >= 0.01 else f"{value:.0e}%"


def directions(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Distributions over the same ordered classes, one line each: probabilities that sum to 1."""
    require_some("directions", curves, "probabilities")
    figure = go.Figure()
    for index, (label, shares) in enumerate(curves.items()):
        figure.add_trace(go.Scatter(y=[100 * share for share in shares], name=label,
                                    mode="lines+markers",
                                    hovertemplate="class %{x}: %{y:.1f} %<extra></extra>",
                                    **style(index)))
    figure.update_xaxes(title="class", dtick=2)
    figure.update_yaxes(title="probability (%)", rangemode="tozero")
    highest = {label: max(shares) for label, shares in curves.items()}
    most, least = (end(highest, key=highest.get) for end in (max, min))
    finding = f"{most} gives one class up to {highest[most]:.0%}"
    return described(figure, f"Probabilities over the classes, a line each: {listed(curves)}.",
                     finding + (f", {least} {highest[least]:.0%}." if most != least else "."))


def gains(rows: Mapping[str, Mapping[str, Any]], baseline: str = "labels alone") -> go.Figure:
    """Test accuracy of each objective: mean and 95 % interval, and each run as a marker.

    `rows` is that of a stored result: label -> {"leaf", "runs": [{"test"}, ...]}, at least two runs
    each. Colour and marker tell the leaf of the survey; a line and a band mark the `baseline`, with
    which the best is compared seed by seed, for both saw the same pictures in the same order. Seeds
    are the runs' own "seed", or their places. Raises LabError if the baseline is no row.
    """
    require_choice("gains", "baseline", baseline, tuple(rows))
    scores = {}
    for label, row in rows.items():
        scores[label] = [100 * run["test"] for run in row["runs"]]
    leaves = list(dict.fromkeys(row["leaf"] for row in rows.values()))
    middle, low, high = mean_interval(scores[baseline], within=PERCENT)
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
    means = {label: mean_interval(values, within=PERCENT) for label, values in scores.items()}
    columns = {"objective": list(rows), "leaf": [row["leaf"] for row in rows.values()]}
    columns |= zip(("test accuracy (%)", "low", "high"), zip(*means.values()))
    best = max(means, key=lambda label: means[label][0])
    finding = f"Nothing is above {baseline}, {middle:.1f} %."
    if best != baseline:
        finding = _gain(best, rows[best]["runs"], baseline, rows[baseline]["runs"])
    alt = (f"Test accuracy of {len(rows)} objectives with intervals, each seed as an open marker; "
           f"a line and a band mark {baseline}.")
    return described(figure, alt, finding, columns)


def _gain(best: str, runs: Sequence[Mapping[str, Any]], baseline: str,
          others: Sequence[Mapping[str, Any]]) -> str:
    """By how much the best lies above the baseline, seed by seed, and whether that is settled."""
    by_seed, base = _by_seed(runs), _by_seed(others)
    seeds = [seed for seed in by_seed if seed in base]
    gain, low, high = paired_interval([by_seed[seed] for seed in seeds],
                                      [base[seed] for seed in seeds])
    settled = "" if low > 0 else f"; {len(seeds)} seeds do not settle it"
    return (f"{best} is best: {gain:+.1f} points ({low:+.1f} to {high:+.1f}, seed by seed) from "
            f"{baseline}, which has {mean(base.values()):.1f} %{settled}.")


def _by_seed(runs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Accuracies in percent."""
    return {run.get("seed", place): 100 * run["test"] for place, run in enumerate(runs)}


def _add_leaf(figure: go.Figure, index: int, leaf: str, scores: Mapping[str, Sequence[float]],
              baseline: str) -> None:
    """Means with intervals of a leaf's rows, named in the legend, and their single runs."""
    series = style(index)["marker"]
    means = {label: mean_interval(values, within=PERCENT) for label, values in scores.items()}
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
