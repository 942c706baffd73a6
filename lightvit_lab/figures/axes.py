"""Small charts as SVG text: axes, ticks, lines. A script moves only what changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from typing import NamedTuple

from .display import COLOURS, DASHES

WIDTH, HEIGHT = 290, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 282, 28, 276            # edges of the plot in the drawing
_DASH = {"solid": "", "dash": "8 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "13 4",
         "longdashdot": "13 3 2 3"}
GLYPHS = "\u25cf\u25a0\u25c6\u25b2\u2715\u2605\u271a"        # as display.MARKERS, in letters


class Axis(NamedTuple):
    """Values from `low` to `high` on pixels from `start` to `end`, logarithmic if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        """The pixel of a value; `card.js` computes the same."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def across(low: float, high: float, log: bool) -> Axis:
    """The horizontal axis of a chart."""
    return Axis(low, high, LEFT, RIGHT, log)


def upward(low: float, high: float, log: bool) -> Axis:
    """The vertical axis of a chart."""
    return Axis(low, high, BOTTOM, TOP, log)


def stroke(index: int) -> str:
    """Colour and dash of the `index`-th line, as attributes; the same as in all figures."""
    index %= len(COLOURS)
    return f'stroke="{COLOURS[index]}" stroke-dasharray="{_DASH[DASHES[index]] or "none"}"'


def x_ticks(axis: Axis, labels: Sequence[tuple[float, str]], title: str) -> str:
    """Grid lines with their labels below, and the title."""
    parts = [f'<path class="grid" d="M{axis.at(value):.1f} {TOP}V{BOTTOM}"/>'
             f'<text x="{axis.at(value):.1f}" y="{BOTTOM + 16}" '
             f'text-anchor="middle">{escape(label)}</text>'
             for value, label in labels]
    middle = (LEFT + RIGHT) / 2
    return "".join([*parts, f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">'
                            f'{escape(title)}</text>'])


def y_ticks(axis: Axis, labels: Sequence[tuple[float, str]], title: str) -> str:
    """Grid lines with their labels at the left, and the title above."""
    parts = [f'<path class="grid" d="M{LEFT} {axis.at(value):.1f}H{RIGHT}"/>'
             f'<text x="{LEFT - 5}" y="{axis.at(value) + 4:.1f}" '
             f'text-anchor="end">{escape(label)}</text>'
             for value, label in labels]
    return "".join(parts) + f'<text x="2" y="{TOP - 12}">{escape(title)}</text>'


def line(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis) -> str:
    """The `d` of a path through points."""
    return ("M" + "L".join(f"{x.at(one):.1f} {y.at(two):.1f}" for one, two in zip(xs, ys))
            if len(xs) else "")


def chart(label: str, ticks: str, inside: str) -> str:
    """A drawing, named for those who do not see it; what runs out of the plot is cut off."""
    box = f'x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"'
    return (f'<svg class="lab-card-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(label)}">{ticks}<rect class="frame" {box}/>'
            f'<svg {box} viewBox="{LEFT} {TOP} {RIGHT - LEFT} {BOTTOM - TOP}">{inside}</svg></svg>')


def legend(labels: Sequence[str], glyphs: bool = False) -> str:
    """The lines' looks and names, above the charts."""
    parts = []
    for index, label in enumerate(labels):
        glyph = ('<text x="15" y="11" text-anchor="middle" '
                 f'style="fill:{COLOURS[index % len(COLOURS)]}">'
                 f"{GLYPHS[index % len(GLYPHS)]}</text>") if glyphs else ""
        drawn = f'<path class="line" d="M0 7H30" {stroke(index)}/>{glyph}'
        parts.append(f'<span><svg width="30" height="14" aria-hidden="true">{drawn}</svg> '
                     f"{escape(label)}</span>")
    return f'<div class="lab-card-legend">{"".join(parts)}</div>'


def decades(axis: Axis, unit: str = "") -> list[tuple[float, str]]:
    """A tick at each power of ten, in short: 1 k, 1 M, 1 G, 1 T, 1 P."""
    powers = range(math.ceil(math.log10(axis.low) - 1e-9),
                   math.floor(math.log10(axis.high) + 1e-9) + 1)
    return [(10.0**power, short(10.0**power) + unit) for power in powers]


def short(value: float) -> str:
    """A number above 0 in at most three digits and a prefix; `cost.js` writes the same."""
    prefixes = ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
    limit, prefix = next((one for one in prefixes if value >= one[0]), (1, ""))
    digits = max(0, 2 - math.floor(math.log10(value / limit)))
    return f"{float(fixed(value / limit, digits)):.15g}{prefix}"


def fixed(value: float, digits: int) -> str:
    """A number with so many digits, halves away from zero as `toFixed` of JavaScript rounds."""
    return str(Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def even(low: float, high: float, count: int = 4) -> list[tuple[float, str]]:
    """About `count` ticks at multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [(index * step, f"{index * step:.10g}")
            for index in range(first, math.floor(high / step + 1e-9) + 1)]
