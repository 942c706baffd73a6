"""Figures that move: states of a drawing, each with a caption, one shown at a time.

One HTML output, as all cards: it opens at the state that shows the effect, plays once when it is
scrolled to, prints its last state, and is a picture without JavaScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy
from PIL import Image
from torch import Tensor

from ..errors import LabError, require_whole
from .card import Card, card, require_finding, slider
from .display import HasOrigin
from .overlay import data_uri, picture_uri
from .pictures import to_bytes
from .tables import Columns, by_column, cell, html_table

MILLISECONDS = 900         # for which a state is shown while the film plays
PIXELS = 192               # about the longer side of a picture in a sheet


class State(NamedTuple):
    """One state: its name on the slider, its drawing as HTML, a sentence on what it shows."""

    label: str
    drawing: str
    caption: str


def film(states: Sequence[State], name: str, control: str, finding: str, start: int, *,
         table: Columns | None = None, result: HasOrigin | None = None) -> Card:
    """States shown one at a time, opening at `start`; `name` says what there is to see.

    `control` is the slider's name, `finding` one sentence for all readers, `table` holds columns by
    name. Raises LabError without two states, and on a start that is none of them.
    """
    if len(states) < 2:
        raise LabError(f"film: {len(states)} states; give at least two, or draw a picture")
    start = require_whole("film", "start", start, 0, len(states) - 1)
    require_finding("film", finding)
    columns = by_column(table) if table else {}
    rows = [tuple(map(cell, row)) for row in zip(*columns.values())]
    controls = (slider(control, "state", 0, len(states) - 1, start, states[start].label)
                + '<button type="button">play</button>')
    drawing = "".join(_state(state, index == start) for index, state in enumerate(states))
    return card("film", name, controls=controls, drawing=drawing, summary="", finding=finding,
                data={"labels": [state.label for state in states], "milliseconds": MILLISECONDS},
                table=html_table("Data table", tuple(columns), rows) if rows else "", result=result)


def _state(state: State, now: bool) -> str:
    shown = " lab-film-now" if now else ""
    return (f'<div class="lab-film-state{shown}">{state.drawing}'
            f'<p class="lab-film-caption">{escape(state.caption)}</p></div>')


def pictures(images: Sequence[Tensor], captions: Sequence[str], alts: Sequence[str] = ()) -> str:
    """Pictures (3, H, W) in [0, 1] side by side as HTML, pixels enlarged, a caption under each."""
    alts = alts or captions
    return '<div class="lab-film-pictures">' + "".join(
        f'<figure><img src="{picture_uri(image)}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for image, caption, alt in zip(images, captions, alts)) + "</div>"


def magnified(image: Tensor) -> numpy.ndarray:
    """A picture (3, H, W) in [0, 1] as bytes (h, w, 3) of about `PIXELS`, by whole numbers."""
    return to_bytes(image, max(1, round(PIXELS / max(image.shape[-2:])))).copy()


def sheet(rows: Sequence[Sequence[numpy.ndarray]], alt: str) -> str:
    """Rows of pictures as one image in HTML: bytes (h, w, 3 or 4), all of one size.

    What is between them is transparent, so that it has the colour of the page, by day and by night.
    """
    height, width = rows[0][0].shape[:2]
    gap = max(4, width // 16)
    size = (max(map(len, rows)) * (width + gap) - gap, len(rows) * (height + gap) - gap)
    canvas = Image.new("RGBA", size)
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            canvas.paste(Image.fromarray(picture), (across * (width + gap), down * (height + gap)))
    return (f'<img src="{data_uri(canvas)}" alt="{escape(alt)}" width="{size[0]}" '
            f'height="{size[1]}" style="max-width:100%;height:auto">')
