"""What several Plotly figures share: names in lines, error bars, axes, words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..errors import LabError

BARE = dict(showticklabels=False, ticks="", showgrid=False, showline=False)    # axes of a picture
PATTERNS = ("", "/", "x", ".", "-")
LINE = 19               # pixels of a line of a name


def require_some(caller: str, found: Mapping[str, Any], example: str) -> None:
    """Raise LabError unless there is something to draw, by name; `example` is one of it."""
    if not found:
        raise LabError(f'{caller}: nothing to draw; give {{"a name": {example}}}')


def folded(name: str, letters: int = 15) -> str:
    """A name in lines of so many letters: more leave a phone no room for the plot."""
    return "<br>".join(textwrap.wrap(name, letters))


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def span(counts: Iterable[int]) -> str:
    """Whole numbers in words: 16, or 4 to 23 where they differ."""
    found = sorted(counts)
    return f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def error_bars(middle: Sequence[float], low: Sequence[float],
               high: Sequence[float]) -> dict[str, Any]:
    """Of plotly, from the ends of intervals."""
    return dict(type="data", symmetric=False, thickness=1,
                array=[b - a for a, b in zip(middle, high)],
                arrayminus=[a - b for a, b in zip(middle, low)])


def percents(shares: Iterable[float]) -> list[float]:
    """Shares in percent."""
    return [100 * share for share in shares]


def as_columns(names: Sequence[str], rows: Iterable[Sequence[float]],
               form: str) -> dict[str, list[str]]:
    """Rows of numbers as columns of a table, by name, in the format `form`."""
    return {name: [*map(form.format, column)] for name, column in zip(names, zip(*rows))}


def looked_up(values: Mapping[str, float], names: Iterable[str], form: str) -> list[str]:
    """A table's column: of each name its value in the format `form`, "" where there is none."""
    return [form.format(values[name]) if name in values else "" for name in names]


def logarithmic(figure: go.Figure, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Logarithmic axes with room around the points and plain ticks: 1, 2, 5, or 1 alone."""
    for update, values in ((figure.update_xaxes, xs), (figure.update_yaxes, ys)):
        low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15
        steps = (1, 2, 5) if high - low < 2 else (1,)
        ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1)
                 for step in steps]
        update(type="log", range=[low, high], tickvals=ticks,
               ticktext=[f"{tick:g}" for tick in ticks])
