"""Any two of some models compared: what they hold, compute, move and take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from ..errors import LabError, plain_numbers, require_choice
from ..survey import published
from .axes import fixed
from .card import Card, card, chooser, require_finding
from .display import HasOrigin
from .efficiency import reversed_sentence

__all__ = ["compare_models"]

NAME = "Two models compared"
# what is compared -> its words, its unit, the unit's size, digits
QUANTITIES = {"params": ("parameters", "M", 1e6, 2), "macs": ("MACs", "G", 1e9, 3),
              "weight_bytes": ("weights", "MiB", 2**20, 1),
              "activation_bytes": ("activations", "MiB", 2**20, 1),
              "latency_ms": ("time", "ms", 1, 1)}
OCTAVES = 3         # a bar that fills its half is 8 times as much or more, or an eighth or less


class Compared(NamedTuple):
    """One model's numbers; None where nobody counted, measured or published."""

    params: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    latency_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    top1: float | None = None


@plain_numbers
def compare_models(costs: Mapping[str, Any], times: Mapping[str, Any] | None = None, *,
                   finding: str | None = None, first: str | None = None, second: str | None = None,
                   image_size: int = 224, result: HasOrigin | None = None) -> Card:
    """Choose two of some models, without a kernel, and read the ratios of their costs.

    `costs` holds by name `profiling.count`'s results, or rows of a stored run with the same fields;
    `times` those of `profiling.measure`; top-1 is what was published, if it was, at `image_size`.
    It starts with `first` and `second` (None: the first two); `finding` says in one sentence what
    to find (None: whether MACs rank times), `result` where the numbers are from. Raises LabError on
    fewer than two models, unknown names, and an empty finding.
    """
    if len(costs) < 2:
        raise LabError(f"compare_models: {len(costs)} models; give the costs of two at least, by "
                       "name")
    names = list(costs)
    first, second = first or names[0], second or names[1]
    for argument, name in (("first", first), ("second", second)):
        require_choice("compare_models", argument, name, names)
    rows = {name: compared(name, cost, (times or {}).get(name), image_size)
            for name, cost in costs.items()}
    finding = _finding(rows) if finding is None else finding
    require_finding("compare_models", finding)
    data = {"names": names, "rows": [row._asdict() for row in rows.values()], "octaves": OCTAVES,
            "quantities": [(key, *how) for key, how in QUANTITIES.items()]}
    return card("two_models", NAME, controls=chooser("first", names, first)
                + chooser("second", names, second),
                drawing=comparison_table(first, rows[first], second, rows[second]), data=data,
                finding=finding, result=result,
                summary=comparison_sentence(first, rows[first], second, rows[second]))


def compared(name: str, cost: Any, time: Any = None, image_size: int = 224) -> Compared:
    """The numbers of one model: `cost` and `time` as objects or mappings, top-1 as published."""
    interval = None if time is None else _field(time, "interval_ms")
    latency = None if time is None else _field(time, "latency_ms")
    return Compared(*(_field(cost, key) for key in list(QUANTITIES)[:4]), latency,
                    None if interval is None else tuple(interval), top1(name, image_size))


def _finding(rows: Mapping[str, Compared]) -> str:
    """Whether MACs rank the times that are known; without two, how far MACs lie apart."""
    timed = [(row.macs, row.latency_ms) for row in rows.values() if row.latency_ms is not None]
    least, most = (end(rows, key=lambda name: rows[name].macs) for end in (min, max))
    return reversed_sentence(timed) or (f"MACs are fewest in {least}, {rows[least].macs / 1e9:.2f} "
                                        f"G, and most in {most}, {rows[most].macs / 1e9:.2f} G.")


def _field(row: Any, key: str) -> Any:
    return row[key] if isinstance(row, Mapping) else getattr(row, key)


def top1(name: str, image_size: int) -> float | None:
    """Top-1 on ImageNet-1K in percent, as published at `image_size`; None if it is not."""
    return next((row.top1 for row in published() if name in (row.model, row.model.partition(".")[0])
                 and image_size == row.image_size), None)


def comparison_table(first: str, one: Compared, second: str, two: Compared,
                     paired: Mapping[str, float | None] | None = None) -> str:
    """Both models' numbers in a table, with the ratio second / first and a bar for each row.

    Bars are logarithmic. `paired` holds ratios that are known better than by dividing; None where
    the machine was too noisy to say.
    """
    divided = {key: None if None in (a, b) else b / a for key, a, b in zip(QUANTITIES, one, two)}
    ratios = {**divided, **(paired or {})}
    rows = [_row(words, unit, _format(a, size, digits), _format(b, size, digits), ratios[key])
            for (key, (words, unit, size, digits)), a, b in zip(QUANTITIES.items(), one, two)]
    points = "" if None in (one.top1, two.top1) else _signed(two.top1 - one.top1)
    rows.append(f'<tr><th scope="row">top-1, %</th><td>{_format(one.top1, 1, 1)}</td>'
                f"<td>{_format(two.top1, 1, 1)}</td><td>{points}</td></tr>")
    heads = "".join(f'<th scope="col">{escape(name).replace("_", "_<wbr>")}</th>'
                    for name in (first, second))
    return ('<div tabindex="0" role="region" aria-label="Both models" style="overflow-x:auto">'
            f'<table><thead><tr><th scope="col">for one picture</th>{heads}<th scope="col">second '
            f'/ first</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
            '<p class="lab-card-note">Bars are logarithmic: less to the left of the middle, more '
            f"to the right, {2**OCTAVES} times or beyond at the ends.</p>")


def _row(words: str, unit: str, one: str, two: str, ratio: float | None) -> str:
    bar = "" if ratio is None else (f"<span>{fixed(ratio, 2)} x</span>"
                                    '<span class="lab-card-bar" aria-hidden="true">'
                                    f'<i{" class=more" * (ratio > 1)} style="{_bar(ratio)}"></i>'
                                    "</span>")
    return (f'<tr><th scope="row">{words}, {unit}</th><td>{one}</td><td>{two}</td>'
            f'<td>{bar}</td></tr>')


def _bar(ratio: float) -> str:
    """Where a bar lies, in percent of its frame: right of the middle where there is more."""
    length = 50 * min(1.0, abs(math.log2(ratio)) / OCTAVES)
    left = 50 if ratio > 1 else 50 - length
    return f"left:{fixed(left, 1)}%;width:{fixed(length, 1)}%"


def _format(value: float | None, size: float, digits: int) -> str:
    return "not known" if value is None else fixed(value / size, digits)


def _signed(points: float) -> str:
    return f"{'' if points < 0 else '+'}{fixed(points, 1)} points"


def comparison_sentence(first: str, one: Compared, second: str, two: Compared,
                        measured: str = "") -> str:
    """The comparison in words; `two_models.js` says the same.

    `measured` is a ratio with its interval, as text.
    """
    if first == second and not measured:
        return f"{first} beside itself: every ratio is 1."
    params, macs = two.params / one.params, two.macs / one.macs
    text = (f"{second} has {fixed(params, 2)} times the parameters and {fixed(macs, 2)} times the "
            f"MACs of {first}")
    text += (f"; measured in turns, its time over the other's: {measured}" if measured
             else _time(one, two))
    if None in (one.top1, two.top1):
        return text + "."
    gap = two.top1 - one.top1
    direction = "higher" if gap > 0 else "lower"
    return f"{text}. As published, its top-1 is {fixed(abs(gap), 1)} points {direction}."


def _time(one: Compared, two: Compared) -> str:
    """The ratio of two medians; where their intervals overlap, the order is not settled."""
    if None in (one.latency_ms, two.latency_ms, one.interval_ms, two.interval_ms):
        return ""
    overlap = one.interval_ms[0] <= two.interval_ms[1] and two.interval_ms[0] <= one.interval_ms[1]
    doubt = " (the intervals overlap: the run does not settle which is faster)" if overlap else ""
    return f", and takes {fixed(two.latency_ms / one.latency_ms, 2)} times its time{doubt}"
