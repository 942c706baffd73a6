"""The frame of small tools for a page without a kernel: controls, drawing, text, table.

One HTML output works in the built page, JupyterLab and Colab: no kernel, no other file, no request.
Without JavaScript the drawing at its start, the sentence about it and the table stand there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from ..errors import LabError
from .display import DARK, HasOrigin
from .tables import as_html

__all__ = ["Card"]

# dark themes of the book, of JupyterLab and of Colab
DARK_THEMES = ('html[data-theme="dark"]', 'body[data-jp-theme-light="false"]', 'html[theme="dark"]')


@dataclass(frozen=True, repr=False)
class Card:
    """A tool for the page, HTML in notebooks and a line of text in terminals.

    `summary` is what it says at its start.
    """

    name: str
    summary: str
    finding: str
    html: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.summary}\n    {self.finding}"

    def _repr_html_(self) -> str:
        return self.html


def card(kind: str, name: str, *, controls: str, drawing: str, summary: str, finding: str,
         data: Mapping[str, Any], table: str = "", result: HasOrigin | None = None) -> Card:
    """A tool whose script is `<kind>.js`, named `name` for screen readers.

    `data` is what the script reads. `controls`, `drawing` and `table` are HTML; the table is
    folded. `result` says where the numbers come from.
    """
    packed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    fold = ""
    if table:
        fold = f'<details class="lab-card-data"><summary>Data table</summary>{table}</details>'
    origin = f'<p class="lab-card-origin">{escape(result.origin)}</p>' if result else ""
    html = (f'<div class="lab-card" data-kind="{kind}" role="group" aria-label="{escape(name)}" '
            f'data-lm-suppress-shortcuts="true">{style()}<div class="lab-card-controls" '
            f'hidden>{controls}</div><div class="lab-card-drawing">{drawing}</div>'
            f"{_summary_html(summary)}"
            f'<p class="lab-card-finding">{as_html(finding)}</p>{fold}{origin}'
            f'<script type="application/json">{packed}</script></div>'
            f"<script>{_script(kind)}</script>")
    return Card(name, summary, finding, html)


def _summary_html(summary: str) -> str:
    """The sentence that follows the controls; a film's captions stand in its states."""
    return (f'<p class="lab-card-said" role="status" aria-live="polite">{as_html(summary)}</p>'
            if summary else "")


def require_finding(caller: str, finding: Any) -> None:
    """Raise LabError unless `finding` is a sentence."""
    if not isinstance(finding, str) or len(finding.split()) < 4:
        raise LabError(f"{caller}: finding={finding!r}; say in one sentence what there is to find")


def live(drawing: str) -> str:
    """A drawing with the style of its card, for the box of a live notebook."""
    return f'<div class="lab-card">{style()}<div class="lab-card-drawing">{drawing}</div></div>'


@cache
def style() -> str:
    """The style sheet of all cards, with the twin of each line's colour in dark themes."""
    dark = "".join(f'{theme} .lab-card [stroke="{light}"]{{stroke:{twin}}}'
                   f'{theme} .lab-card [style*="fill:{light}"]{{fill:{twin} !important}}'
                   for light, twin in DARK.items() for theme in DARK_THEMES)
    return f"<style>{_read('card.css')}{dark}</style>"


def chooser(name: str, labels: Sequence[str], chosen: str) -> str:
    """A labelled native select, whose values are the places in `labels`."""
    options = ""
    for index, label in enumerate(labels):
        selected = " selected" if label == chosen else ""
        options += f'<option value="{index}"{selected}>{escape(label)}</option>'
    return f'<label>{escape(name)} <select data-choice="{escape(name)}">{options}</select></label>'


def slider(name: str, key: str, low: int, high: int, value: int, text: str) -> str:
    """A labelled native slider over whole numbers; `text` is its value in words."""
    named = f'aria-label="{escape(name)}" aria-valuetext="{escape(text)}"'
    return (f"<label>{escape(name)} <output>{escape(text)}</output>"
            f'<input type="range" data-choice="{escape(key)}" {named} min="{low}" max="{high}" '
            f'value="{value}"></label>')


@cache
def _script(kind: str) -> str:
    """The cards' shared script and the kind's own, in one function: no name leaks to the page."""
    return '(function () {\n"use strict";\n' + _read("card.js") + _read(f"{kind}.js") + "})();"


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
