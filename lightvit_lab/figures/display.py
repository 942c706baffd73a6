"""The template of every figure, and `show`, for the built page, Jupyter and Colab.

A figure explains itself: the function that makes it says in `described` what there is to see, in
words for those who do not see it, as a finding, as a table. It stays a Plotly figure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

import plotly.graph_objects as go

from ..errors import LabError
from .tables import as_html, by_column, cell, html_table, table_of

__all__ = ["described", "show"]


class HasOrigin(Protocol):
    """Anything that says in one line where its numbers come from, such as a stored result."""

    origin: str


# Told apart by colour-blind readers, and dark enough on white: four of Okabe and Ito's colours,
# wine and indigo of Paul Tol's, black. Every series has a marker and a dash of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#882255", "#332288", "#000000")
# What each becomes in a dark theme, and the lines and texts around it; `plots.js` has the same.
DARK = {"#0072B2": "#A4DBFF", "#D55E00": "#EA6E00", "#009E73": "#7CC07E", "#CC79A7": "#E49BBF",
        "#882255": "#AF8389", "#332288": "#8F86E8", "#000000": "#FFFFFF", "#222222": "#E4E6EA",
        "#555555": "#A5ADB8", "#777777": "#A5ADB8", "#DDDDDD": "#3D434B",
        "white": "rgba(0,0,0,0)"}
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "12px,3px,3px,3px,3px,3px")

TEXT, TITLE = 12, 13       # pixels of ticks and legends, and of titles: one scale in all figures
LEGEND_LINE = 22           # pixels that a name in a legend takes
BUTTONS = 44               # pixels that a row of buttons takes

_AXIS = dict(gridcolor="#DDDDDD", linecolor="#555555", ticks="outside", automargin=True,
             zeroline=False, tickfont_size=TEXT, title_font_size=TITLE)
TEMPLATE = go.layout.Template(layout=dict(
    colorway=COLOURS, font=dict(family="system-ui, sans-serif", size=TITLE, color="#222222"),
    paper_bgcolor="white", plot_bgcolor="white", height=310, margin=dict(l=60, r=20, t=20, b=55),
    colorscale=dict(sequential="Cividis"), hovermode="closest", xaxis=_AXIS, yaxis=_AXIS,
    legend=dict(font_size=TEXT),
))
_HIDDEN = ("position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);"
           "white-space:nowrap")

_NO_SCRIPT = "<noscript><p>Drawn by JavaScript; its numbers are in the table.</p></noscript>"


def style(index: int) -> dict:
    """Colour, marker and dash of the `index`-th series, as arguments of a Plotly scatter trace."""
    index %= len(COLOURS)
    return {"line": {"color": COLOURS[index], "dash": DASHES[index]},
            "marker": {"color": COLOURS[index], "symbol": MARKERS[index], "size": 9}}


def described(figure: go.Figure, alt: str, finding: str = "",
              table: Mapping[str, Sequence[Any]] | None = None) -> go.Figure:
    """`figure`, with what `show` says of it.

    `alt` says in a sentence what there is to see, for those who do not see it; `finding` is one
    sentence for all readers; `table` holds columns by name, the first one naming the rows, and is
    that of the points and bars where it is None. Raises LabError if `alt` is no sentence, or if
    columns differ in length.
    """
    if not isinstance(alt, str) or len(alt.split()) < 4:
        raise LabError(f"show: alt={alt!r}; say in one sentence what the figure shows, for those "
                       "who do not see it")
    columns = by_column(table) if table else None
    return figure.update_layout(meta={"alt": alt, "finding": finding, "table": columns})


def show(figure: go.Figure, alt: str = "", result: HasOrigin | None = None, finding: str = "",
         table: Mapping[str, Sequence[Any]] | None = None) -> None:
    """Show `figure` with its alternative text, a finding, its numbers and their origin.

    Figures of this library bring their words; what is given here replaces them, and a figure of
    your own needs `alt`, as in `described`. `result` is the stored run that the figure draws.
    Raises LabError if `figure` is none, and as `described` does.
    """
    if not isinstance(figure, go.Figure):
        raise LabError(f"show: expected a Plotly figure, got {type(figure).__name__}")
    own = figure.layout.meta           # a reader's own figure may have any there
    own = own if isinstance(own, Mapping) else {}
    words = {name: own.get(name) for name in ("alt", "finding", "table")}
    given = {"alt": alt, "finding": finding, "table": table}
    words |= {name: value for name, value in given.items() if value}
    figure = described(arranged(figure), words["alt"], words["finding"] or "", words["table"])
    words = {"table": table_of(figure)} | {k: v for k, v in figure.layout.meta.items() if v}
    figure.layout.meta = None              # said below, once
    try:
        from IPython.display import HTML, display
    except ImportError:
        return print(f"[figure] {words['alt']}")
    below = _words_html(words.get("finding", ""), words["table"], result)
    if "LIGHTVIT_BOOK" in os.environ:
        return display(HTML(_page_html(figure, words["alt"], below)))
    display(figure)
    display(HTML(f'<p style="{_HIDDEN}">Figure: {escape(words["alt"])}</p>{below}'))


def arranged(figure: go.Figure) -> go.Figure:
    """A copy with the template, its legend above the plot, one name below the other, and buttons.

    Names side by side do not fit a phone. The figure grows by what they take.
    """
    figure = go.Figure(figure).update_layout(template=TEMPLATE)
    layout, default = figure.layout, TEMPLATE.layout
    lines = sum(1 + name.count("<br>") for name in _legend(figure))
    legend = LEGEND_LINE * lines
    top = layout.margin.t if layout.margin.t is not None else default.margin.t
    bottom = layout.margin.b if layout.margin.b is not None else default.margin.b
    height = layout.height or default.height
    plot = max(1, height - top - bottom)
    buttons = BUTTONS * len(layout.updatemenus)
    for menu in layout.updatemenus:
        menu.update(x=0, xanchor="left", y=1 + (top + legend) / plot, yanchor="bottom")
    return figure.update_layout(
        height=height + legend + buttons, margin=dict(t=top + legend + buttons),
        showlegend=bool(lines) and layout.showlegend is not False,
        legend=dict(orientation="v", x=0, xanchor="left", y=1 + top / plot, yanchor="bottom",
                    tracegroupgap=0))


def _legend(figure: go.Figure) -> list[str]:
    """The names that stand in the legend; none where there is one line alone."""
    shown = [trace for trace in figure.data
             if trace.type in ("scatter", "bar") and trace.showlegend is not False]
    if figure.layout.showlegend is False or len(figure.data) < 2 and not figure.layout.showlegend:
        return []
    return [trace.name or "" for trace in shown]


def _words_html(finding: str, table: Mapping[str, Sequence[Any]], result: HasOrigin | None) -> str:
    """What stands below a figure: finding, folded table, origin."""
    words = f"<p>{as_html(finding)}</p>" if finding else ""
    if table:
        rows = [tuple(map(cell, row)) for row in zip(*table.values())]
        words += ("<details><summary>Data table</summary>"
                  + html_table("Data table", tuple(table), rows, lists=True) + "</details>")
    return words + (f"<p><small>{escape(result.origin)}</small></p>" if result else "")


def _page_html(figure: go.Figure, alt: str, below: str) -> str:
    """HTML for a page whose script, `plots.js`, draws what is packed here.

    A group, not an image: buttons in it stay reachable.
    """
    packed = json.loads(figure.to_json())
    text = json.dumps({name: packed[name] for name in ("data", "layout")},
                      separators=(",", ":")).replace("<", "\\u003c")
    return (f'<figure class="lab-figure" role="group" aria-label="{escape(alt, quote=True)}">'
            f'<div class="lab-plot" style="height:{figure.layout.height}px">{_NO_SCRIPT}</div>'
            f'<script type="application/json">{text}</script>'
            f"{f'<figcaption>{below}</figcaption>' if below else ''}</figure>")
