"""The template of every figure, and `show`, for the built page, Jupyter and Colab."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

import plotly.graph_objects as go
import plotly.io as pio

from ..errors import LabError

__all__ = ["show"]


class HasOrigin(Protocol):
    """Anything that says in one line where its numbers come from, such as a stored result."""

    origin: str


# Told apart by colour-blind readers, and dark enough on white: four of Okabe and Ito's colours,
# wine and indigo of Paul Tol's, black. Every series has a marker and a dash of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#882255", "#332288", "#000000")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "12px,3px,3px,3px,3px,3px")

TEMPLATE = go.layout.Template(layout=dict(
    colorway=COLOURS, font=dict(family="system-ui, sans-serif", size=14, color="#222222"),
    paper_bgcolor="white",
    plot_bgcolor="white", height=380, margin=dict(l=60, r=20, t=30, b=50),
    colorscale=dict(sequential="Cividis"),
    legend=dict(orientation="h", yanchor="bottom", y=1.02, xanchor="left", x=0),
    hovermode="closest",
    xaxis=dict(gridcolor="#DDDDDD", linecolor="#555555", ticks="outside", automargin=True,
               zeroline=False),
    yaxis=dict(gridcolor="#DDDDDD", linecolor="#555555", ticks="outside", automargin=True,
               zeroline=False),
))
_HIDDEN = ("position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);"
           "white-space:nowrap")


def style(index: int) -> dict:
    """Colour, marker and dash of the `index`-th series, as arguments of a Plotly scatter trace."""
    index %= len(COLOURS)
    return {"line": {"color": COLOURS[index], "dash": DASHES[index]},
            "marker": {"color": COLOURS[index], "symbol": MARKERS[index], "size": 9}}


def show(figure: go.Figure, alt: str, result: HasOrigin | None = None, finding: str = "",
         table: Mapping[str, Sequence[Any]] | None = None) -> None:
    """Show `figure` with its alternative text, a finding, its numbers and their origin.

    `finding` is one sentence for all readers; `table` holds columns by name, the first one naming
    the rows, and is folded; `result` is the stored run that the figure draws. Raises LabError if
    `figure` is none, if `alt` does not say in a sentence what there is to see, or if columns differ
    in length.
    """
    if not isinstance(figure, go.Figure):
        raise LabError(f"show: expected a Plotly figure, got {type(figure).__name__}")
    if not isinstance(alt, str) or len(alt.split()) < 4:
        raise LabError(f"show: alt={alt!r}; say in one sentence what the figure shows, for those "
                       "who do not see it")
    figure = go.Figure(figure).update_layout(template=TEMPLATE)
    try:
        from IPython.display import HTML, display
    except ImportError:
        return print(f"[figure] {alt}")
    below = (f"<p>{escape(finding)}</p>" if finding else "") + (_table_html(table) if table else "")
    below += f"<p><small>{escape(result.origin)}</small></p>" if result else ""
    if "LIGHTVIT_BOOK" in os.environ:
        return display(HTML(_page_html(figure, alt, below)))
    display(figure)
    display(HTML(f'<p style="{_HIDDEN}">Figure: {escape(alt)}</p>{below}'))


def _table_html(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns by name as a table in a fold, which scrolls on a phone."""
    if len({len(column) for column in columns.values()}) != 1:
        lengths = ", ".join(f"{name!r} {len(column)}" for name, column in columns.items())
        raise LabError(f"show: columns of the table differ in length ({lengths}); give as many "
                       "values in each")
    rows = [tuple(map(_cell, row)) for row in zip(*columns.values())]
    return ("<details><summary>Data table</summary>"
            + html_table("Data table", tuple(map(str, columns)), rows) + "</details>")


def html_table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]],
               caption: str = "") -> str:
    """Text in an HTML table that scrolls on a phone; the first cell of each row names it."""
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(text)}</td>" for text in rest)
        body += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    return (f'<div tabindex="0" role="region" aria-label="{escape(name)}" style="overflow-x:auto">'
            f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _page_html(figure: go.Figure, alt: str, below: str) -> str:
    """HTML for a page that has plotly.js already.

    A group, not an image: sliders and buttons in it stay reachable.
    """
    drawing = pio.to_html(figure, full_html=False, include_plotlyjs=False, include_mathjax=False,
                          auto_play=False,
                          config={"responsive": True, "displaylogo": False,
                                  "displayModeBar": False})
    return ('<figure class="lab-figure" role="group" '
            f'aria-label="{escape(alt, quote=True)}">{drawing}'
            f"{f'<figcaption>{below}</figcaption>' if below else ''}</figure>")
