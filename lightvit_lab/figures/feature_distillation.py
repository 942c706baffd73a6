"""Figures of feature distillation: similar pictures, energy by width, agreement of maps.

Agreement is the rank correlation of a network's maps with the teacher's, picture by picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers, require_images, require_range, require_whole
from ..explain.sanity import rank_correlation
from .card import Card
from .display import described, style
from .film import State, film, pictures
from .overlay import blend
from .parts import listed, require_some

__all__ = ["agreement", "agreement_film", "energy_beyond_width", "similarity_matrices"]

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
    figure.update_layout(coloraxis=dict(colorscale="Cividis", colorbar=bar),
                         height=220 * lines + 110, margin=dict(l=5, r=5, t=40, b=70))
    means = {name: _pair_means(matrix, groups) for name, matrix in matrices.items()}
    columns = {"network": list(means), f"{unit}, same group": [same for same, _ in means.values()],
               f"{unit}, other groups": [other for _, other in means.values()]}
    return described(figure, f"For {listed(matrices)} a square heat map of {unit}, a row and a "
                             f"column for each of {len(groups)} pictures of "
                             f"{listed(name for name, _ in blocks)}.",
                     _contrast(means, unit), columns)


def _pair_means(matrix: Tensor, groups: Sequence[str]) -> tuple[float, float]:
    """Mean over pairs of two pictures of one group, and over pairs of different groups."""
    places = torch.tensor([list(groups).index(name) for name in groups])
    same = places[:, None] == places
    apart = ~torch.eye(len(groups), dtype=torch.bool)
    values = matrix.detach().cpu().double()
    return values[same & apart].mean().item(), values[~same].mean().item()


def _contrast(means: Mapping[str, tuple[float, float]], unit: str) -> str:
    """By what factor two pictures of one group are more similar, where that is a factor."""
    if not all(other > 0 and math.isfinite(same) for same, other in means.values()):
        return f"The table has the mean {unit} of pictures of one group, and of different groups."
    times = {name: same / other for name, (same, other) in means.items()}
    top, low = (end(times, key=times.get) for end in (max, min))
    second = f" and {times[low]:.2f} times ({low})" if top != low else ""
    return (f"Two pictures of one group are {times[top]:.2f} times ({top}){second} as alike as two "
            "of different groups.")


@plain_numbers
def energy_beyond_width(energies: Mapping[str, Tensor], width: int) -> go.Figure:
    """The share of a layer's energy that a smaller width cannot reach: a line a layer.

    `energies` holds for each layer the squares of its singular values (D,), falling; `width` is the
    student's, and gets a line of its own. Raises LabError on energies that are negative or do not
    fall, and where there are none.
    """
    require_range("energy_beyond_width", "width", width, 1)
    require_some("energy_beyond_width", energies, "torch.linalg.svdvals(features).pow(2)")
    figure, lost = go.Figure(), {}
    for index, (label, values) in enumerate(energies.items()):
        _require_falling(label, values)
        beyond = 1 - values.detach().cpu().double().cumsum(0) / values.sum().item()
        lost[label] = 100 * values[width:].sum().item() / values.sum().item()
        series = style(index)
        figure.add_trace(go.Scatter(
            x=list(range(len(values) + 1)),
            y=[100.0, *(100 * beyond.clamp(min=0)).round(decimals=3).tolist()],
            name=label, mode="lines", line=series["line"],
            hovertemplate="%{y:.2f} % beyond width %{x}<extra></extra>"))
    figure.add_vline(x=width, line=dict(color="#000000", width=1), annotation_text=f"width {width}")
    figure.update_xaxes(title="width", rangemode="tozero")
    figure.update_yaxes(title="energy out of reach (%)", rangemode="tozero")
    most = max(lost, key=lost.get)
    columns = {"layer": list(lost), "channels": list(map(len, energies.values())),
               f"beyond width {width} (%)": list(lost.values())}
    return described(figure, "Falling lines: the share of the features' energy beyond a width, for "
                             f"{listed(energies)}.",
                     f"Beyond width {width} lies at most {lost[most]:.1f} % of a layer's energy "
                     f"({most}).", columns)


def agreement(correlations: Mapping[str, Tensor]) -> go.Figure:
    """Rank correlation of each network's maps with the teacher's, (N,) in [-1, 1], as boxes.

    Raises LabError on values beyond that range, and where there are none.
    """
    require_some("agreement", correlations, "rank_correlation(maps, teacher_maps)")
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
    figure.update_layout(height=110 + 46 * len(correlations))
    means = {label: values.float().mean().item() for label, values in correlations.items()}
    columns = {"map": list(means), "mean": list(means.values()),
               "10% lie below": _quantiles(correlations, 0.1),
               "90% lie below": _quantiles(correlations, 0.9)}
    return described(figure, "Boxes of rank correlations with the teacher's map, a value for each "
                             f"picture: {listed(correlations)}.", _ends(means), columns)


def _quantiles(correlations: Mapping[str, Tensor], share: float) -> list[float]:
    return [values.float().quantile(share).item() for values in correlations.values()]


def _ends(means: Mapping[str, float]) -> str:
    top, low = (end(means, key=means.get) for end in (max, min))
    lowest = f" and lowest with {means[low]:.2f} ({low})" if top != low else ""
    return (f"The mean rank correlation with the teacher's map is highest with {means[top]:.2f} "
            f"({top}){lowest}.")


def agreement_film(images: Tensor, teacher: Tensor, students: Mapping[str, Tensor],
                   shown: int = 6) -> Card:
    """A student's maps below the teacher's, a state of the student at a time, the last one first.

    `images` are (N, 3, H, W) in [0, 1], the maps of `teacher` and of each of `students`, a name for
    each state, (N, rows, columns). The first `shown` pictures are drawn, the captions are about all
    N. Raises LabError on maps of other shapes, and without two states.
    """
    require_images("agreement_film", images, channels=3)
    shown = min(len(images), require_whole("agreement_film", "shown", shown, 1))
    means, states = {}, []
    for label, maps in students.items():
        _require_alike(label, maps, teacher, len(images))
        found = rank_correlation(maps, teacher)
        means[label] = found.mean().item()
        states.append(State(label, _strips(images[:shown], teacher, maps, found),
                            f"{label}: mean rank correlation with the teacher's map "
                            f"{means[label]:.2f}, over {len(images)} pictures."))
    return film(states, "Where the student's features are strong, below the teacher's", "student",
                _ends(means) if means else "", len(states) - 1, table={
                    "student": list(means),
                    "mean rank correlation": [f"{value:.2f}" for value in means.values()]})


def _strips(images: Tensor, teacher: Tensor, student: Tensor, found: Tensor) -> str:
    """Each picture, the teacher's map over it, the student's; below, their correlation."""
    strips = []
    for image, *maps in zip(images, teacher, student):
        line = image.new_full((3, 1, image.shape[-1]), 0.5)        # seen in both themes
        over = [torch.from_numpy(blend(image, cells)).permute(2, 0, 1) / 255 for cells in maps]
        strips.append(torch.cat([image, line, over[0], line, over[1]], dim=1))
    captions = [f"{value:.2f}" for value in found[:len(strips)].tolist()]
    note = ("From top to bottom: the picture, the teacher's map, the student's; below, their rank "
            "correlation.")
    return f'<p class="lab-card-note">{note}</p>' + pictures(strips, captions, [
        f"a picture, the teacher's map and the student's: rank correlation {caption}"
        for caption in captions])


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


def _require_alike(label: str, maps: Tensor, teacher: Tensor, count: int) -> None:
    for name, one in (("teacher", teacher), (label, maps)):
        fits = isinstance(one, Tensor) and one.ndim == 3 and len(one) == count
        if not fits or one.shape != teacher.shape or not one.isfinite().all():
            raise LabError(f"agreement_film: the maps of {name!r} are {_shape(one)}; give finite "
                           f"ones ({count}, rows, columns), one for each picture, of one size for "
                           "teacher and students")


def _require_falling(label: str, values: Tensor) -> None:
    fits = (isinstance(values, Tensor) and values.ndim == 1 and len(values)
            and bool((values >= 0).all()))
    if not fits or bool((values.diff() > 0).any()) or values.sum() <= 0:
        raise LabError(f"energy_beyond_width: {label!r} is {_shape(values)}; give squared singular "
                       "values (D,), the largest first, as torch.linalg.svdvals(features).pow(2)")


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
