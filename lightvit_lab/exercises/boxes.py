"""The small HTML boxes of checks and predictions: self-contained, legible on light and dark pages.

Every colour of the text is inherited from the page; the hue of the left edge only repeats what a
sign and a word say.
"""

from __future__ import annotations

import re
from html import escape

EDGES = {"passed": "#2e8b57", "not started": "#808080", "wrong": "#c0392b",
         "error": "#b8860b", "predict": "#4c78a8", "progress": "#4c78a8"}
SIGNS = {"passed": "\u2713", "not started": "\u25cb", "wrong": "\u2717", "error": "!"}
_CODE = re.compile(r"`([^`]+)`")
_CODE_STYLE = "font-family:monospace;color:inherit;background:none;border:0;padding:0"


def inline(text: str) -> str:
    """Plain text as HTML: everything escaped, then `code` between backticks set as code."""
    return _CODE.sub(rf'<code style="{_CODE_STYLE}">\1</code>', escape(text))


def box_style(kind: str) -> str:
    """The inline style of a box of this kind, one of EDGES."""
    return ("border:1px solid rgba(128,128,128,.5);"
            f"border-left:5px solid {EDGES[kind]};border-radius:4px;"
            "padding:.5em .8em;margin:.4em 0;color:inherit;background:transparent;"
            "max-width:60em;line-height:1.5;overflow-wrap:anywhere")


def preformatted(text: str) -> str:
    """Text as it stands, scrolled sideways where it is wide; empty for an empty text."""
    style = ("margin:.4em 0 0;padding:0;border:0;color:inherit;background:none;"
             "overflow-x:auto")
    return f'<pre tabindex="0" style="{style}">{escape(text)}</pre>' if text else ""


def check_box(status: str, exercise_id: str, message: str, values: str = "", drawing: str = "",
              printed: str = "") -> str:
    """The box of a check: sign, status and exercise in one line, then message, numbers, output."""
    css = status.replace(" ", "-")
    output = '<div style="margin-top:.4em">It printed:</div>' if printed else ""
    return (f'<div class="lab-check lab-check-{css}" style="{box_style(status)}">'
            f'<strong><span aria-hidden="true">{SIGNS[status]}</span> {escape(status)}</strong> '
            f'<span style="font-family:monospace">{escape(exercise_id)}</span>'
            f'<div class="lab-check-message">{inline(message)}</div>'
            f'{preformatted(values)}{drawing}{output}{preformatted(printed)}</div>')
