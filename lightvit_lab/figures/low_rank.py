"""Figures of low rank: spectra, errors and times over the rank, accuracy over a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers, require_range
from .display import described, style
from .parts import error_bars, listed, logarithmic, percents, require_some

__all__ = ["accuracy_over", "errors_over_rank", "spectra", "time_over_rank"]

Scored = tuple[float, float, float, float]     # what was turned, accuracy, low and high
_ACROSS = 2                                    # panels in a row: two are legible on a phone


def spectra(energies: Mapping[str, Mapping[str, Tensor]],
            break_even: Mapping[str, float] | None = None) -> go.Figure:
    """Energy kept over the rank: a panel for each kind of layer, a line for each label.

    Lines end at the smallest full rank. `energies[label][kind]` are squared singular values (k,),
    the largest first; `break_even[kind]`, where given, gets a line of its own. Raises LabError on
    values that are negative or do not fall, and on labels of other kinds.
    """
    kinds = list(next(iter(energies.values()), {}))
    _require_energies(energies, kinds)
    rows = -(-len(kinds) // _ACROSS)
    figure = make_subplots(rows, _ACROSS, subplot_titles=kinds, shared_yaxes=True,
                           horizontal_spacing=0.06, vertical_spacing=0.22 / rows)
    for place, kind in enumerate(kinds):
        where = {"row": place // _ACROSS + 1, "col": place % _ACROSS + 1}
        figure.update_xaxes(range=[0, min(len(values[kind]) for values in energies.values())],
                            **where)
        for index, (label, values) in enumerate(energies.items()):
            shares = values[kind].detach().cpu().double()
            kept = 100 * shares.cumsum(0) / shares.sum()
            figure.add_trace(go.Scatter(
                x=list(range(len(kept) + 1)), y=[0.0, *kept.round(decimals=3).tolist()], name=label,
                legendgroup=label, mode="lines", line=style(index)["line"], showlegend=place == 0,
                hovertemplate=f"{kind}, {label}<br>rank %{{x}}: %{{y:.1f}} %<extra></extra>"),
                **where)
        if break_even is not None:
            figure.add_vline(x=break_even[kind], line=dict(color="#555555", width=1, dash="dot"),
                             **where)
    figure.update_yaxes(range=[0, 102]).update_yaxes(title="energy kept (%)", col=1)
    figure.update_xaxes(nticks=4, tickangle=0).update_xaxes(title="rank", row=rows)
    figure.update_layout(height=185 * rows + 105, margin=dict(t=45))
    ranks = {label: list(map(_enough, values.values())) for label, values in energies.items()}
    said = ", ".join(f"{label} {found[0]}" for label, found in ranks.items())
    columns = {"layer": kinds} | {f"90 % of: {label}": found for label, found in ranks.items()}
    if break_even is not None:
        said += f"; break-even is at {break_even[kinds[0]]:.0f}"
        columns["break-even"] = [break_even[kind] for kind in kinds]
    return described(figure, f"Energy kept over the rank, a panel for each of {listed(kinds)}, a "
                             f"line for each of {listed(energies)}.",
                     f"Ranks that hold 90 % of the energy of {kinds[0]}: {said}.", columns)


def _enough(squares: Tensor, share: float = 0.9) -> int:
    """The smallest rank that keeps this share of the energy."""
    shares = squares.detach().cpu().double()
    return int((shares.cumsum(0) / shares.sum() < share).sum()) + 1


@plain_numbers
def errors_over_rank(ranks: Sequence[int],
                     errors: Mapping[str, Sequence[Sequence[float]]]) -> go.Figure:
    """Relative output error over the rank; `errors[label][i]` are all layers' at `ranks[i]`.

    The median layer is a point, bars run from the best layer to the worst. Raises LabError where
    counts differ.
    """
    require_some("errors_over_rank", errors, "[[error, ...], ...]")
    figure = go.Figure()
    for index, (label, by_rank) in enumerate(errors.items()):
        if len(by_rank) != len(ranks) or not all(len(layers) for layers in by_rank):
            raise LabError(f"errors_over_rank: {label!r} has errors for {len(by_rank)} ranks, and "
                           f"there are {len(ranks)}; give a list of the layers' errors for each")
        middle = [100 * median(layers) for layers in by_rank]
        figure.add_trace(go.Scatter(
            x=[rank * (1 + 0.015 * index) for rank in ranks], y=middle, name=label,
            mode="lines+markers", **style(index), customdata=list(ranks),
            hovertemplate="rank %{customdata}: %{y:.2f} %<extra>" + label + "</extra>",
            error_y=error_bars(middle,
                               percents(map(min, by_rank)), percents(map(max, by_rank)))))
    every = [100 * one for by_rank in errors.values() for layers in by_rank for one in layers]
    logarithmic(figure, list(ranks), every)
    figure.update_xaxes(title="rank", tickvals=list(ranks), ticktext=[str(rank) for rank in ranks])
    figure.update_yaxes(title="output error (%)")
    medians = {label: list(map(median, by_rank)) for label, by_rank in errors.items()}
    columns = {"rank": ranks} | {f"{label}: median (%)": percents(found)
                                 for label, found in medians.items()}
    columns |= {f"{label}: worst (%)": percents(map(max, by_rank))
                for label, by_rank in errors.items()}
    said = ", ".join(f"{label} {found[-1]:.1%}" for label, found in medians.items())
    return described(figure, "Relative output error over the rank, median layer with best and "
                             f"worst: {listed(errors)}.",
                     f"At rank {ranks[-1]} the error of the median layer is: {said}.", columns)


def accuracy_over(lines: Mapping[str, Sequence[Scored]], turned: str,
                  whole: tuple[float, float, float] | None = None, log: bool = False,
                  scored: str = "test accuracy (%)") -> go.Figure:
    """Test accuracy over a setting (value, accuracy, low, high); `turned` is the title of its axis.

    Accuracies are shares, or shares of something else that `scored` names. `whole` is
    (accuracy, low, high) of the model before, a line across with a band. Raises LabError on
    shares outside [0, 1].
    """
    require_some("accuracy_over", lines, "[(value, accuracy, low, high), ...]")
    values = sorted({point[0] for points in lines.values() for point in points})
    figure = go.Figure()
    if whole is not None:
        figure.add_hrect(y0=100 * whole[1], y1=100 * whole[2], fillcolor="#000000", opacity=0.08,
                         line_width=0)
        figure.add_hline(y=100 * whole[0], line=dict(color="#000000", width=1, dash="dash"))
    for index, (label, points) in enumerate(lines.items()):
        for _, *shares in points:
            for share in shares:
                require_range("accuracy_over", "a share", share, 0, 1)
        xs, *scores = zip(*sorted(points))
        figure.add_trace(go.Scatter(
            x=xs, y=percents(scores[0]), name=label, mode="lines+markers", **style(index),
            hovertemplate="%{x}: %{y:.1f} %<extra>" + label + "</extra>",
            error_y=error_bars(*map(percents, scores))))
    figure.update_xaxes(title=turned, tickvals=values, ticktext=[f"{value:g}" for value in values],
                        type="log" if log else "linear", tickangle=0)
    figure.update_yaxes(title=scored)
    across = f"; a line across marks {whole[0]:.1%}" if whole is not None else ""
    return described(figure, f"{scored.partition(' (')[0]} over {turned}, with intervals: "
                             f"{listed(lines)}{across}.", _gap(lines, turned))


def _gap(lines: Mapping[str, Sequence[Scored]], turned: str) -> str:
    """Where lines are farthest apart, or from where to where a single one goes."""
    name = turned.partition(" (")[0]
    by_value: dict[float, dict[str, float]] = {}
    for label, points in lines.items():
        for value, accuracy, *_ in points:
            by_value.setdefault(value, {})[label] = accuracy
    values = sorted(by_value)
    if len(lines) == 1:
        first, last = ([*by_value[end].values()][0] for end in (values[0], values[-1]))
        return (f"From {values[0]:g} to {values[-1]:g} ({name}) it goes from {first:.1%} to "
                f"{last:.1%}.")
    here = max(values, key=lambda value: max(by_value[value].values())
               - min(by_value[value].values()))
    best, worst = (end(by_value[here], key=by_value[here].get) for end in (max, min))
    return (f"They are farthest apart at {here:g} ({name}): {best} {by_value[here][best]:.1%}, "
            f"{worst} {by_value[here][worst]:.1%}.")


@plain_numbers
def time_over_rank(ranks: Sequence[int], macs: Sequence[float],
                   times: Sequence[tuple[float, float, float]]) -> go.Figure:
    """What two thin layers cost over their rank, as shares of the original layer's cost.

    MACs, and measured times as (share, low, high). Lines go down where each of them breaks even, if
    it does within these ranks. Raises LabError where counts differ.
    """
    if not len(ranks) == len(macs) == len(times):
        raise LabError(f"time_over_rank: {len(ranks)} ranks, {len(macs)} counts and {len(times)} "
                       "times; give as many of each")
    middle, low, high = zip(*times)
    figure = go.Figure(go.Scatter(x=ranks, y=percents(macs), name="MACs", mode="lines",
                                  line=style(0)["line"],
                                  hovertemplate="rank %{x}: %{y:.0f} % of the MACs<extra></extra>"))
    figure.add_trace(go.Scatter(
        x=ranks, y=percents(middle), name="measured time", mode="lines+markers", **style(1),
        hovertemplate="rank %{x}: %{y:.0f} % of the time<extra></extra>",
        error_y=error_bars(*map(percents, (middle, low, high)))))
    figure.add_hline(y=100, line=dict(color="#000000", width=1))
    for index, shares in enumerate((macs, middle)):
        if (rank := crossing(ranks, shares)) is not None:
            figure.add_vline(x=rank, line=dict(color=style(index)["line"]["color"], width=1,
                                               dash="dot"))
    figure.update_xaxes(title="rank", rangemode="tozero")
    figure.update_yaxes(title="share of the original layer (%)", rangemode="tozero")
    places = [crossing(ranks, shares) for shares in (macs, middle)]
    words = ["not within these ranks" if place is None else f"at rank {place:.0f}"
             for place in places]
    columns = {"rank": ranks, "MACs (share)": macs, "time (share)": middle, "low": low,
               "high": high}
    return described(figure, "What two thin layers cost over their rank, as a share of the "
                             "original layer: MACs on a straight line, measured time with "
                             "intervals.",
                     f"In MACs they break even {words[0]}; in time, on this machine, {words[1]}.",
                     columns)


def crossing(ranks: Sequence[float], shares: Sequence[float], level: float = 1.0) -> float | None:
    """The rank at which rising `shares` reach `level`, interpolated; None if they do not.

    Where noise lets them cross more than once, the last time counts.
    """
    found = None
    for (left, below), (right, above) in pairwise(zip(ranks, shares)):
        if below < level <= above:
            found = left + (right - left) * (level - below) / (above - below)
    return found


def _require_energies(energies: Mapping[str, Mapping[str, Tensor]], kinds: Sequence[str]) -> None:
    if not kinds:
        raise LabError('spectra: no energies; give {"weight": {"fc1": squared singular values}, '
                       "...}")
    for label, by_kind in energies.items():
        if list(by_kind) != list(kinds):
            raise LabError(f"spectra: {label!r} has {list(by_kind)}, the first has {list(kinds)}; "
                           "give the same kinds for all")
        for kind, values in by_kind.items():
            falls = values.ndim == 1 and len(values) and not (values.diff() > 0).any()
            if not falls or (values < 0).any():
                raise LabError(f"spectra: {label!r}, {kind!r} is {tuple(values.shape)}; give "
                               "squared singular values, the largest first, as "
                               "torch.linalg.svdvals(weight).square()")
