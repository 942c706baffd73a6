"""Figures of attention: rollout by depth, all heads, distances, global tokens.

A map's unit is the fair share: what each token would get if all got the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers, require_grid, require_images, require_range
from .display import COLOURS, described, style
from .overlay import highest
from .parts import BARE, listed
from .pictures import pictures_and_maps, to_bytes

__all__ = ["attention_distance", "global_tokens", "head_gallery", "rollout_by_depth"]

_UNIT = "times a fair share"


@plain_numbers
def rollout_by_depth(image: Tensor, flows_by_depth: Sequence[Tensor], prefix: int = 1,
                     grid: tuple[int, int] | None = None) -> go.Figure:
    """What the class token is made of after 1, 2, ... blocks: a map a block, in fair shares.

    All maps have one scale. `image` is (3, H, W) in [0, 1]; `flows_by_depth` holds (N, N) per
    depth, such as `rollout(maps[:depth])[picture]`. The first `prefix` tokens are no patches;
    without any, the mean over all looking patches is drawn. `grid` is (rows, columns) of the
    patches, None for a square. Raises LabError on flows that are none, or of another grid.
    """
    _require("rollout_by_depth", image, flows_by_depth, 2, "(N, N)")
    rows, columns = require_grid("rollout_by_depth", flows_by_depth[0].shape[-1], prefix, grid)
    found = [_class_token_row(flow, prefix).reshape(rows, columns).cpu() for flow in flows_by_depth]
    # three to a row, for phones
    places = [(index // 3 + 1, index % 3 + 1) for index in range(1 + len(found))]
    lines = places[-1][0]
    figure = make_subplots(lines, 3, horizontal_spacing=0.02, vertical_spacing=0.2 / lines,
                           subplot_titles=("picture",
                                           *(f"block {block}" for block in range(len(found)))))
    figure.add_trace(go.Image(z=to_bytes(image, scale=2), hoverinfo="skip"), *places[0])
    for values, place in zip(found, places[1:]):
        figure.add_trace(go.Heatmap(z=_rounded(values), coloraxis="coloraxis",
                                    hovertemplate=f"%{{z:.2f}} {_UNIT}<extra></extra>"), *place)
        _upright(figure, *place)
    figure.update_xaxes(**BARE, constrain="domain").update_yaxes(**BARE, constrain="domain")
    figure.update_annotations(font_size=12)
    figure.update_layout(height=160 * lines + 90, margin=dict(l=5, r=5, t=30, b=70),
                         coloraxis=_scale(found))
    return described(figure, *_rollout_words(found, flows_by_depth, prefix))


def _rollout_words(found: Sequence[Tensor], flows: Sequence[Tensor],
                   prefix: int) -> tuple[str, str, dict[str, list]]:
    """Alternative text, finding and table of rollout by depth."""
    owner = "the class token" if prefix else "the mean token"
    columns = {"block": list(range(len(found)))}
    first, *_, last = [part.max().item() for part in (*found, found[-1])]
    finding = f"The highest patch has {first:.1f} {_UNIT} after block 0"
    finding += f", {last:.1f} after block {len(found) - 1}." if len(found) > 1 else "."
    if prefix:
        columns["class token's own share"] = [flow[0, 0].item() for flow in flows]
    columns["highest patch"] = [highest(part) for part in found]
    columns[_UNIT] = [part.max().item() for part in found]
    return (f"The picture, and of which patches {owner} is made after each block, "
            f"{len(found)} in all: a heat map each.", finding, columns)


@plain_numbers
def head_gallery(image: Tensor, block_maps: Sequence[Tensor], prefix: int = 1,
                 grid: tuple[int, int] | None = None) -> go.Figure:
    """What the class token attends to, by block (rows) and head (columns), in fair shares.

    The scale ends where 1 % of the values lie above, so that one sharp head does not hide all
    others. `image` is (3, H, W) in [0, 1]; `block_maps` holds (heads, N, N) per block, at most 12
    heads and 24 blocks; `prefix` and `grid` as in `rollout_by_depth`. Raises LabError on maps that
    are none, of several sizes, or of another grid.
    """
    _require("head_gallery", image, block_maps, 3, "(heads, N, N)")
    require_range("head_gallery", "number of blocks", len(block_maps), 1, 24)
    require_range("head_gallery", "number of heads", block_maps[0].shape[0], 1, 12)
    rows, columns = require_grid("head_gallery", block_maps[0].shape[-1], prefix, grid)
    found = []
    for block_map in block_maps:
        found.append([_class_token_row(weights, prefix).reshape(rows, columns).cpu()
                      for weights in block_map])
    heads = len(found[0])
    figure = make_subplots(1, 2, column_widths=[0.22, 0.78], horizontal_spacing=0.08,
                           subplot_titles=("picture", "head"))
    figure.add_trace(go.Image(z=to_bytes(image, scale=2), hoverinfo="skip"), 1, 1)
    figure.add_trace(_sheet(found), 1, 2)
    figure.update_xaxes(**BARE, row=1, col=1)
    figure.update_yaxes(**BARE, constrain="domain", constraintoward="top", row=1, col=1)
    _upright(figure, 1, 2)
    figure.update_xaxes(**_middles(heads, columns), side="top", constrain="domain", row=1, col=2)
    figure.update_yaxes(**_middles(len(found), rows), title=dict(text="block", standoff=4),
                        constrain="domain", constraintoward="top", row=1, col=2)
    figure.update_annotations(font_size=12)
    figure.layout.annotations[1].yshift = 18                # above the numbers of the heads
    figure.update_layout(height=max(190, 54 * len(found)) + 130, margin=dict(l=5, r=5, t=50, b=70),
                         coloraxis=_scale([values for heads in found for values in heads], 0.99))
    most = torch.stack([torch.stack(parts).amax(dim=(1, 2)) for parts in found])
    return described(figure, "The picture, and heat maps of where each head attends: a row for "
                             f"each block ({len(found)}), a column for each head ({heads}).",
                     f"The highest patch of a head has {_span(most)} {_UNIT}.",
                     _by_head(most, "head {}: most"))


def _by_head(values: Tensor, name: str) -> dict[str, list]:
    """A table of (blocks, heads) with a row for each block."""
    return {"block": list(range(len(values)))} | {
        name.format(head): column for head, column in enumerate(values.T.tolist())}


def _span(values: Tensor) -> str:
    """The lowest and the highest of some values; one where they read alike."""
    low, high = f"{values.min():.1f}", f"{values.max():.1f}"
    return low if low == high else f"{low} to {high}"


def _sheet(found: Sequence[Sequence[Tensor]]) -> go.Heatmap:
    """All maps on one sheet, a free row or column between two; lighter than many subplots."""
    rows, columns = found[0][0].shape
    values = numpy.full((len(found) * (rows + 1) - 1, len(found[0]) * (columns + 1) - 1), numpy.nan)
    names = numpy.full((*values.shape, 4), -1)
    for block, heads in enumerate(found):
        for head, part in enumerate(heads):
            top, left = block * (rows + 1), head * (columns + 1)
            place = slice(top, top + rows), slice(left, left + columns)
            values[place] = part.detach().cpu().double().numpy()
            names[place] = numpy.stack(
                numpy.broadcast_arrays(block, head, *numpy.indices(part.shape)), axis=-1)
    cells = numpy.where(numpy.isnan(values), None, values.round(3)).tolist()
    return go.Heatmap(z=cells, customdata=names.tolist(), coloraxis="coloraxis", hoverongaps=False,
                      hovertemplate="block %{customdata[0]}, head %{customdata[1]}<br>"
                                    "row %{customdata[2]}, column %{customdata[3]}<br>"
                                    f"%{{z:.2f}} {_UNIT}<extra></extra>")


def _middles(count: int, size: int) -> dict:
    """Ticks in the middle of each map of a sheet."""
    return dict(tickvals=[index * (size + 1) + (size - 1) / 2 for index in range(count)],
                ticktext=list(map(str, range(count))), ticks="", showgrid=False, showline=False)


@plain_numbers
def attention_distance(distances: Tensor, unit: str = "patches",
                       evenly: float | None = None) -> go.Figure:
    """How far away heads attend, by block: a point a head, their mean as a line.

    `distances` are (blocks, heads), in `unit`; `evenly` is that of a head that attends to all
    patches alike, drawn as a dashed line.
    """
    if not isinstance(distances, Tensor) or distances.ndim != 2 or not distances.isfinite().all():
        raise LabError(f"attention_distance: distances={_shape(distances)}; give finite ones, "
                       "(blocks, heads), as explain.attention_distance(maps)")
    blocks, heads = distances.shape
    means = go.Scatter(x=list(range(blocks)), y=_rounded(distances.mean(dim=1)),
                       name="mean of heads",
                       mode="lines+markers", hovertemplate="block %{x}: %{y:.2f}<extra></extra>",
                       **style(0))
    points = go.Scatter(x=[block for block in range(blocks) for _ in range(heads)],
                        y=_rounded(distances.flatten()),
                        text=[f"head {head}" for _ in range(blocks) for head in range(heads)],
                        name="one head",
                        mode="markers", marker=dict(symbol="diamond-open", size=10,
                                                    color=COLOURS[1], line_width=2),
                        hovertemplate="block %{x}, %{text}: %{y:.2f}<extra></extra>")
    figure = go.Figure([points, means])
    if evenly is not None:
        figure.add_hline(y=evenly, line=dict(color="#000000", width=1, dash="dash"))
    figure.update_xaxes(title="block", dtick=1, range=[-0.4, blocks - 0.6])
    figure.update_yaxes(title=f"mean attention distance ({unit})", rangemode="tozero")
    finding = f"Heads attend {_span(distances)} {unit} far"
    finding += "." if evenly is None else f"; one that attends to all alike, {evenly:.1f}."
    line = "" if evenly is None else " A dashed line marks attention to all patches alike."
    return described(figure, f"Mean attention distance in {unit} over the blocks: a marker for "
                             f"each head, a line for their mean.{line}", finding,
                     _by_head(distances, "head {}"))


@plain_numbers
def global_tokens(images: Tensor, aggregation: Tensor, broadcast: Tensor,
                  grid: tuple[int, int] | None = None) -> go.Figure:
    """What LightViT's global tokens take from patches and hand back: two rows a picture.

    `images` (B, 3, H, W) in [0, 1]; `aggregation` (B, heads, T, N) and `broadcast` (B, heads, N, T)
    as `record_attention` gives them for one block, heads averaged here. N patches form `grid`, None
    for a square. Values are in fair shares: of N patches where a token takes, of T tokens where it
    is handed back. Raises LabError on maps that do not fit.
    """
    require_images("global_tokens", images, channels=3)
    pictures = len(images)
    for name, part, expected in (("aggregation", aggregation, "T, N"),
                                 ("broadcast", broadcast, "N, T")):
        fits = isinstance(part, Tensor) and part.ndim == 4 and len(part) == pictures
        if not fits or not part.isfinite().all():
            raise LabError(f"global_tokens: {name}={_shape(part)}; give finite ({pictures}, heads, "
                           f"{expected}), one block of what record_attention gives for LightViT")
    if aggregation.shape[-2:] != broadcast.shape[:-3:-1]:
        raise LabError(f"global_tokens: aggregation has shape {_shape(aggregation)}, broadcast "
                       f"{_shape(broadcast)}; give (B, heads, T, N) and (B, heads, N, T) of the "
                       "same block")
    tokens, patches = aggregation.shape[-2:]
    grid = require_grid("global_tokens", patches, 0, grid)
    taken = aggregation.float().mean(dim=1) * patches                             # (B, T, N)
    handed = broadcast.float().mean(dim=1).transpose(1, 2) * tokens
    both = (torch.stack([taken, handed], dim=1).flatten(0, 1).cpu()
            .unflatten(-1, grid))                                    # (2B, T, rows, columns)
    titles = [f"token {token}" for token in range(tokens)]
    figure = pictures_and_maps(images.repeat_interleave(2, dim=0), both.unbind(dim=1), titles,
                               _UNIT)
    for row in range(2 * pictures):
        title = dict(text="hands back" if row % 2 else "takes", font_size=11, standoff=2)
        figure.update_yaxes(title=title, row=row + 1, col=1)
    return described(figure, f"Two rows for each of {pictures} pictures: what "
                             f"{listed(titles)} take from each place, and what they hand back.",
                     _strays(taken, handed), _takes_and_hands_back(taken, handed))


def _strays(taken: Tensor, handed: Tensor) -> str:
    """How much global tokens, (B, T, N) in fair shares, differ from each other."""
    if taken.shape[1] == 1:
        return f"From one place the token takes up to {taken.max():.1f} {_UNIT}."
    apart = (taken - taken.mean(dim=1, keepdim=True)).abs().max()
    return (f"Where they take, tokens differ from their mean by up to {apart:.1f} fair shares; "
            f"what a place gets back differs by up to {(handed - 1).abs().max():.1%} from an even "
            "mixture.")


def _takes_and_hands_back(taken: Tensor, handed: Tensor) -> dict[str, list]:
    """A table with a row for each picture and token."""
    pictures, tokens, _ = taken.shape
    return {"picture": [picture for picture in range(pictures) for _ in range(tokens)],
            "global token": list(range(tokens)) * pictures,
            f"takes most ({_UNIT})": taken.amax(dim=-1).flatten().tolist(),
            f"gives most back ({_UNIT})": handed.amax(dim=-1).flatten().tolist()}


def _class_token_row(weights: Tensor, prefix: int) -> Tensor:
    """The class token's row, or the mean row without one: (N, N) -> (patches,), fair shares."""
    row = weights[0] if prefix else weights.mean(dim=0)
    return row[prefix:].float() * len(weights)


def _scale(found: Sequence[Tensor], share: float = 1.0) -> dict:
    """One scale for all maps, from zero to the quantile `share` of all values; the bar below."""
    every = torch.stack([part.detach().cpu() for part in found]).double()
    top = every.flatten().quantile(share).item()
    title = dict(text=_UNIT + (" (or more, at the end)" if share < 1 else ""), side="top",
                 font_size=12)
    bar = dict(title=title, orientation="h", len=0.6, thickness=10, y=0, yanchor="top")
    return dict(colorscale="Cividis", cmin=0, cmax=top, colorbar=bar)


def _upright(figure: go.Figure, row: int, column: int) -> None:
    """Square cells, row 0 on top as in a picture."""
    name = figure.get_subplot(row, column).xaxis.plotly_name.replace("axis", "")
    figure.update_yaxes(scaleanchor=name, autorange="reversed", row=row, col=column)


def _rounded(values: Tensor) -> list:
    return values.float().cpu().round(decimals=3).tolist()


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _require(caller: str, image: Tensor, maps: Sequence[Tensor], ndim: int, expected: str) -> None:
    """Raise LabError unless there is one picture, and maps that are finite, square, alike."""
    if not isinstance(image, Tensor) or image.ndim != 3 or len(image) != 3:
        raise LabError(f"{caller}: image={_shape(image)}; give one picture (3, height, width) in "
                       "[0, 1], such as images[0]")
    if len(maps) == 0:
        raise LabError(f"{caller}: no maps; give a list of {expected}, one a block")
    for block, part in enumerate(maps):
        same = isinstance(part, Tensor) and part.ndim == ndim and part.shape == maps[0].shape
        if not same or part.shape[-1] != part.shape[-2] or not part.isfinite().all():
            raise LabError(f"{caller}: the map of block {block} is {_shape(part)}; give finite "
                           f"{expected} of one size for every block, for one picture, such as "
                           "[part[0] for part in maps]")

