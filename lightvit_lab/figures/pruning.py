"""Figures of pruning: which layers bear it, and which heads it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from ..errors import LabError, plain_numbers
from .attention import head_gallery
from .compression import Row, score
from .display import COLOURS, described, style
from .parts import error_bars, listed

__all__ = ["pruned_heads", "sensitivity_curves"]


def sensitivity_curves(rows: Sequence[Row], dense: float) -> go.Figure:
    """Accuracy after pruning one layer alone, by its place: a line a ratio, a panel a part.

    `rows` hold "layer", "ratio" and an accuracy with its interval, and where there are several
    kinds "part"; `dense` is the accuracy of the original model, a share. LabError without rows.
    """
    if not rows:
        raise LabError("sensitivity_curves: no rows; give those of "
                       "compression.pruning.sensitivity(model, data)")
    parts = [*dict.fromkeys(row.get("part", "") for row in rows)]
    ratios = [*dict.fromkeys(row["ratio"] for row in rows)]
    figure = make_subplots(len(parts), 1, shared_xaxes=True, vertical_spacing=0.12,
                           subplot_titles=parts if parts != [""] else None)
    for panel, part in enumerate(parts, start=1):
        layers = [*dict.fromkeys(row["layer"] for row in rows if row.get("part", "") == part)]
        for index, ratio in enumerate(ratios):
            here = [row for row in rows if row.get("part", "") == part and row["ratio"] == ratio]
            figure.add_trace(_sensitivity(here, layers, index, ratio, panel == 1), panel, 1)
        figure.add_hline(y=100 * dense, line=dict(color="#000000", width=1, dash="dash"), row=panel,
                         col=1)
        figure.update_xaxes(tickvals=list(range(len(layers))), showticklabels=True, row=panel,
                            col=1)
    ends = [value for row in rows for value in score(row)[1:]] + [100 * dense]
    figure.update_yaxes(title="accuracy (%)", range=[min(ends) - 3, max(ends) + 3])
    figure.update_xaxes(title="block", row=len(parts), col=1)
    figure.update_layout(height=170 * len(parts) + 90, margin=dict(t=30, b=60))
    return described(figure, "Accuracy after pruning one layer alone, by its place: a line for "
                             f"each of {listed(f'{ratio:.0%} removed' for ratio in ratios)}"
                             f"{f', a panel for each of {listed(parts)}' if parts != [''] else ''};"
                             " dashes mark the original model.",
                     _worst(rows, dense), _sensitivity_table(rows))


def _worst(rows: Sequence[Row], dense: float) -> str:
    row = min(rows, key=lambda row: score(row)[0])
    part = f" ({row['part']})" if row.get("part") else ""
    return (f"Accuracy is lowest, {score(row)[0]:.1f} %, where {row['ratio']:.0%} of "
            f"{row['layer']}{part} is removed; the original model has {100 * dense:.1f} %.")


def _sensitivity_table(rows: Sequence[Row]) -> dict[str, list]:
    parts = {"part": [row["part"] for row in rows]} if "part" in rows[0] else {}
    ends = {name: list(map("{:.1f}".format, values))
            for name, values in zip(("accuracy (%)", "low", "high"), zip(*map(score, rows)))}
    return {"layer": [row["layer"] for row in rows], **parts,
            "removed": [f"{row['ratio']:.0%}" for row in rows], **ends}


def _sensitivity(rows: Sequence[Row], layers: Sequence[str], index: int, ratio: float,
                 named: bool) -> go.Scatter:
    middle, low, high = zip(*map(score, rows))
    return go.Scatter(x=[layers.index(row["layer"]) for row in rows], y=middle,
                      mode="lines+markers", **style(index),
                      name=f"{ratio:.0%} removed", legendgroup=f"{ratio}", showlegend=named,
                      text=[row["layer"] for row in rows], error_y=error_bars(middle, low, high),
                      hovertemplate=f"%{{text}}, {ratio:.0%} removed: %{{y:.1f}} %<extra></extra>")


@plain_numbers
def pruned_heads(image: Tensor, block_maps: Sequence[Tensor], pruned: Sequence[tuple[int, int]],
                 prefix: int = 1, grid: tuple[int, int] | None = None) -> go.Figure:
    """`head_gallery` of the whole model, with frames around pruned heads, (block, head) from 0.

    Raises LabError on a head that is not there, and on maps as `head_gallery` does.
    """
    figure = head_gallery(image, block_maps, prefix, grid)
    heads = block_maps[0].shape[0]
    sheet = figure.data[1].z
    rows, columns = ((len(side) + 1) // count - 1
                     for side, count in ((sheet, len(block_maps)), (sheet[0], heads)))
    for block, head in pruned:
        if not (0 <= block < len(block_maps) and 0 <= head < heads):
            raise LabError(f"pruned_heads: there is no head {head} in block {block}; blocks are 0 "
                           f"to {len(block_maps) - 1}, heads 0 to {heads - 1}")
        top, left = block * (rows + 1), head * (columns + 1)
        figure.add_shape(type="rect", x0=left - 0.9, x1=left + columns - 0.1,
                         y0=top - 0.9, y1=top + rows - 0.1, row=1, col=2,
                         line=dict(color=COLOURS[1], width=3))
    columns = {name: list(column) for name, column in zip(("block", "head"), zip(*pruned))}
    return described(figure, "Where the class token looks in each block and head, for one picture; "
                             f"frames mark {len(pruned)} heads that were pruned.",
                     _gone(pruned, heads * len(block_maps)), columns)


def _gone(pruned: Sequence[tuple[int, int]], count: int) -> str:
    """How many heads went, and from which block most of them."""
    if not pruned:
        return f"None of the {count} heads is pruned."
    block, most = Counter(block for block, _ in pruned).most_common(1)[0]
    return f"{len(pruned)} of {count} heads are pruned, {most} of them in block {block}."
