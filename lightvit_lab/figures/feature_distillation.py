"""Figures of feature distillation: similar pictures, energy by width, agreement of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers, require_range
from .display import style

__all__ = ["agreement", "energy_beyond_width", "similarity_matrices"]

_ACROSS = 2   # matrices in a row: two are legible on a phone


def similarity_matrices(matrices: Mapping[str, Tensor], groups: Sequence[str],
                        unit: str = "similarity") -> go.Figure:
    """How similar a network finds each pair of pictures: a matrix (B, B) a network, one scale.

    `groups` names the group (the class) of each picture; pictures of one group stand together, and
    their block is named at its middle. Raises LabError on matrices of other sizes, or with values
    that are not finite.
    """
    _require_matrices(matrices, len(groups))
    order = sorted(range(len(groups)), key=lambda place: groups[place])
    names = [groups[place] for place in order]
    blocks = [(name, len(list(members))) for name, members in groupby(names)]
    lines = -(-len(matrices) // _ACROSS)
    across = min(_ACROSS, len(matrices))
    figure = make_subplots(lines, across, subplot_titles=list(matrices), horizontal_spacing=0.04,
                           vertical_spacing=0.14 / lines)
    pairs = [list(zip([row] * len(names), names)) for row in names]
    for index, matrix in enumerate(matrices.values()):
        cells = matrix.detach().float().cpu()[order][:, order].round(decimals=3).tolist()
        place = index // across + 1, index % across + 1
        figure.add_trace(go.Heatmap(
            z=cells, customdata=pairs, coloraxis="coloraxis",
            hovertemplate="%{customdata[0]} and %{customdata[1]}: %{z:.2f}<extra></extra>"), *place)
        anchor = figure.get_subplot(*place).xaxis.plotly_name.replace("axis", "")
        ticks = _ticks(blocks) if place[1] == 1 else dict(showticklabels=False, ticks="")
        figure.update_yaxes(ticks, scaleanchor=anchor, autorange="reversed",
                            row=place[0], col=place[1])
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, constrain="domain")
    figure.update_yaxes(showgrid=False, constrain="domain").update_annotations(font_size=13)
    bar = dict(title=dict(text=unit, side="top"), orientation="h", len=0.6, thickness=10, y=0,
               yanchor="top")
    return figure.update_layout(coloraxis=dict(colorscale="Cividis", colorbar=bar),
                                height=260 * lines + 110, margin=dict(l=5, r=5, t=40, b=70))


@plain_numbers
def energy_beyond_width(energies: Mapping[str, Tensor], width: int) -> go.Figure:
    """The share of a layer's energy that a smaller width cannot reach: a line a layer.

    `energies` holds for each layer the squares of its singular values (D,), falling; `width` is the
    student's, and gets a line of its own. Raises LabError on energies that are negative or do not
    fall.
    """
    require_range("energy_beyond_width", "width", width, 1)
    figure = go.Figure()
    for index, (label, values) in enumerate(energies.items()):
        _require_falling(label, values)
        beyond = 1 - values.detach().cpu().double().cumsum(0) / values.sum().item()
        series = style(index)
        figure.add_trace(go.Scatter(
            x=list(range(len(values) + 1)),
            y=[100.0, *(100 * beyond.clamp(min=0)).round(decimals=3).tolist()],
            name=label, mode="lines", line=series["line"],
            hovertemplate="%{y:.2f} % beyond width %{x}<extra></extra>"))
    figure.add_vline(x=width, line=dict(color="#000000", width=1), annotation_text=f"width {width}")
    figure.update_xaxes(title="width", rangemode="tozero")
    return figure.update_yaxes(title="energy out of reach (%)", rangemode="tozero")


def agreement(correlations: Mapping[str, Tensor]) -> go.Figure:
    """Rank correlation of each network's maps with the teacher's, (N,) in [-1, 1], as boxes.

    Raises LabError on values beyond that range.
    """
    figure = go.Figure()
    for index, (label, values) in enumerate(correlations.items()):
        fits = isinstance(values, Tensor) and values.ndim == 1 and len(values) > 0
        if not fits or not bool((values.abs() <= 1 + 1e-4).all()):
            raise LabError(f"agreement: {label!r} is {_shape(values)}; give one correlation in "
                           "[-1, 1] for each picture, as explain.sanity.rank_correlation(maps, "
                           "teacher_maps)")
        series = style(index)
        figure.add_trace(go.Box(
            x=values.detach().float().cpu().round(decimals=3).tolist(),
            name=label.replace(", ", ",<br>"),
            orientation="h", boxpoints="outliers", boxmean=True,
            marker=series["marker"] | {"size": 5}, line_color=series["marker"]["color"],
            hovertemplate="%{x:.2f}<extra></extra>", showlegend=False))
    figure.update_xaxes(title="rank correlation with teacher", range=[-1, 1])
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(height=130 + 60 * len(correlations))


def _ticks(blocks: Sequence[tuple[str, int]]) -> dict:
    """A tick in the middle of each group's rows, its name over two lines."""
    middles, first = [], 0
    for _, count in blocks:
        middles.append(first + (count - 1) / 2)
        first += count
    names = [name.replace(" ", "<br>", 1) for name, _ in blocks]
    return dict(tickvals=middles, ticktext=names, tickfont_size=10, ticks="")


def _require_matrices(matrices: Mapping[str, Tensor], count: int) -> None:
    if not isinstance(matrices, Mapping) or not matrices:
        raise LabError('similarity_matrices: no matrices; give {"teacher": matrix, ...}, each (B, '
                       "B)")
    for label, matrix in matrices.items():
        fits = isinstance(matrix, Tensor) and matrix.shape == (count, count)
        if not fits or not matrix.isfinite().all():
            raise LabError(f"similarity_matrices: {label!r} is {_shape(matrix)}; give a finite "
                           f"matrix ({count}, {count}), a row and a column for each of the {count} "
                           "pictures in groups")


def _require_falling(label: str, values: Tensor) -> None:
    fits = (isinstance(values, Tensor) and values.ndim == 1 and len(values)
            and bool((values >= 0).all()))
    if not fits or bool((values.diff() > 0).any()) or values.sum() <= 0:
        raise LabError(f"energy_beyond_width: {label!r} is {_shape(values)}; give squared singular "
                       "values (D,), the largest first, as torch.linalg.svdvals(features).pow(2)")


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
