"""Results as HTML tables, for the built page, Jupyter and Colab; and the table of a figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from ..errors import LabError

__all__ = ["table"]

Columns = Mapping[str, Sequence[Any]]
NARROW = 4              # columns that fit a phone side by side; a row of more becomes a list there
MOST = 60               # points of one line that its data table holds in full
_NUMBER = re.compile(r"\s*[(\[<>=~+\u2212-]*\s*[.\d]")
_FIRST = re.compile(r"(?:(?<=\s)|^)[-\u2212]?\d*\.?\d+(?:e[-+]?\d+)?")
_LEFT = ' style="text-align:left"'


def table(rows: Sequence[Mapping[str, Any]] | Columns, caption: str = "", bars: str = "") -> None:
    """Show results as a table: a list of rows, or columns by name; the first column names rows.

    Values are shown as they are, floats with three digits. Outside notebooks the table is text.
    `bars` names a column whose numbers, the first of each cell, are also drawn: as bars from zero.
    Raises LabError where there is nothing to show, on rows with other names than the first, on
    columns that differ in length, and on `bars` that name no column of numbers from zero up.
    """
    columns = by_column(rows)
    if bars:
        shares(columns, bars)
    found = Results(columns, caption, bars)
    try:
        from IPython.display import display
    except ImportError:
        return print(found)
    display(found)


class Results(NamedTuple):
    """Columns by name and a caption: HTML in notebooks, aligned text in terminals."""

    columns: Columns
    caption: str
    bars: str = ""

    def __repr__(self) -> str:
        return as_text(self.columns, self.caption)

    def _repr_html_(self) -> str:
        texts = [tuple(map(cell, row)) for row in zip(*self.columns.values())]
        drawn = {self.bars: shares(self.columns, self.bars)} if self.bars else {}
        html = html_table(self.caption or "Results", tuple(self.columns), texts, self.caption,
                          lists=True, drawn=drawn)
        return f'<figure class="lab-bars" style="margin:0">{html}</figure>' if drawn else html


def shares(columns: Columns, name: str) -> list[float]:
    """How long each bar of a column is, of the largest; 0 where a cell has no number.

    Raises LabError as `table` does of `bars`.
    """
    if name not in list(columns)[1:]:
        raise LabError(f"table: bars={name!r}; name one of the columns {list(columns)[1:]}")
    found = [_FIRST.search(cell(value).replace(",", "")) for value in columns[name]]
    numbers = [float(each[0].replace("\u2212", "-")) if each else 0.0 for each in found]
    if min(numbers) < 0 or not max(numbers):
        raise LabError(f"table: bars={name!r}: bars need numbers from zero up, and one above it")
    return [number / max(numbers) for number in numbers]


def by_column(rows: Sequence[Mapping[str, Any]] | Columns) -> dict[str, list[Any]]:
    """Rows as columns by name. Raises LabError as `table` does."""
    if not isinstance(rows, Mapping):
        rows = list(rows)
        names = list(rows[0]) if rows else []
        for number, row in enumerate(rows):
            if list(row) != names:
                raise LabError(f"table: row {number} has {list(row)}, the first {names}; give the "
                               "same names in each")
        rows = columns_of(rows, names)
    for name, column in rows.items():
        if isinstance(column, str) or not hasattr(column, "__len__"):
            raise LabError(f"table: column {name!r} is {column!r}; give a list of its values")
    lengths = {name: len(column) for name, column in rows.items()}
    if not any(lengths.values()):
        raise LabError("table: there is nothing to show; give rows, or columns by name")
    if len({*lengths.values()}) != 1:
        differ = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise LabError(f"table: columns of the table differ in length ({differ}); give as many "
                       "values in each")
    return {str(name): list(column) for name, column in rows.items()}


def columns_of(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    """Columns of these names, of rows; "" where a row has none."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, column in columns.items():
            column.append(row.get(name, ""))
    return columns


def as_text(columns: Columns, caption: str = "") -> str:
    """A table in aligned letters, for terminals."""
    lines = [list(columns), *([*map(cell, row)] for row in zip(*columns.values()))]
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*([caption] if caption else []), *rows])


def html_table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]],
               caption: str = "", lists: bool = False,
               drawn: Mapping[str, Sequence[float]] | None = None) -> str:
    """Text in an HTML table; the first cell of each row names it.

    `drawn` holds the lengths of bars, as shares, below the cells of some columns.

    With `lists`, the book's style sheet turns rows of more than `NARROW` columns into lists on a
    phone: each cell then says its head. Columns of text begin at the left, numbers end at the
    right.
    """
    above = f"<caption>{as_html(caption)}</caption>" if caption else ""
    sides = ["", *(_LEFT if is_text(column) else "" for column in list(zip(*rows))[1:])]
    head = "".join(f'<th scope="col"{side}>{as_html(text)}</th>'
                   for text, side in zip(heads, sides))
    wide = lists and len(heads) > NARROW
    body = ""
    for number, (first, *rest) in enumerate(rows):
        styles = [_bar(drawn[title][number]) if drawn and title in drawn else side
                  for title, side in zip(heads[1:], sides[1:])]
        cells = "".join(f"<td{style}{_head(title) if wide else ''}>{as_html(text)}</td>"
                        for title, text, style in zip(heads[1:], rest, styles))
        body += f'<tr><th scope="row">{as_html(first)}</th>{cells}</tr>'
    return (f'<div class="lab-results{" lab-table-wide" if wide else ""}" tabindex="0" '
            f'role="region" aria-label="{as_html(name)}" style="overflow-x:auto"><table>{above}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def as_html(text: str) -> str:
    """Text in HTML, percent as in the prose of the book: "9.4%" becomes "9.4 %", on one line."""
    return escape(re.sub(r"(?<=\d)%", "\u00a0%", text))


def is_text(column: Sequence[str]) -> bool:
    """Whether most cells of a column begin with words, not with a number and its sign."""
    said = [text for text in column if text.strip()]
    return sum(_NUMBER.match(text) is None for text in said) > len(said) / 2


def _bar(share: float) -> str:
    """The style of a cell over a bar; a pale blue that both themes bear."""
    end = f"{100 * share:.1f}%"
    return (' style="print-color-adjust:exact;background:linear-gradient(90deg,'
            f'rgba(0,114,178,.32) {end},transparent {end})"')


def _head(title: str) -> str:
    return f' data-head="{as_html(title)}"'


def cell(value: Any) -> str:
    """A value as a reader sees it: floats with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table_of(figure: go.Figure) -> dict[str, list[Any]]:
    """The numbers that a figure draws, a row for each point or bar; {} where it draws none.

    Of lines with more than `MOST` points, eleven from the first to the last. Intervals are there
    where the figure has them.
    """
    rows = [row for trace in figure.data for row in _points(figure, trace)]
    columns = columns_of(rows, dict.fromkeys(name for row in rows for name in row))
    return {name: column for name, column in columns.items() if set(map(str, column)) != {""}}


def _points(figure: go.Figure, trace: Any) -> list[dict[str, Any]]:
    if trace.type not in ("scatter", "bar") or trace.y is None or trace.hoverinfo == "skip":
        return []
    ys = list(trace.y)
    xs = list(trace.x) if trace.x is not None else list(range(len(ys)))
    across, upward = (_title(figure, trace, letter) for letter in "xy")
    rows = []
    for place in _places(len(ys)):
        row = {"series": _plain(trace.name or ""), across or "x": xs[place]}
        row[upward or "y"] = ys[place]
        rows.append(row | _interval(trace, place, xs, ys))
    return rows


def _places(count: int) -> Sequence[int]:
    return range(count) if count <= MOST else [step * (count - 1) // 10 for step in range(11)]


def _interval(trace: Any, place: int, xs: Sequence[Any], ys: Sequence[Any]) -> dict[str, Any]:
    """The ends of a point's error bar."""
    for bar, values in ((trace.error_x, xs), (trace.error_y, ys)):
        if bar.array is not None:
            below = bar.array if bar.arrayminus is None else bar.arrayminus
            return {"low": values[place] - below[place], "high": values[place] + bar.array[place]}
    return {}


def _title(figure: go.Figure, trace: Any, letter: str) -> str:
    """The title of a trace's axis; of panels that share one, that of the first that has it."""
    own = getattr(trace, f"{letter}axis", None) or letter
    axes = [figure.layout[own.replace(letter, f"{letter}axis")],
            *(figure.layout[name] for name in figure.layout
              if str(name).startswith(f"{letter}axis"))]
    return next((_plain(axis.title.text) for axis in axes if axis.title.text), "")


def _plain(text: str) -> str:
    return text.replace("<br>", " ")
