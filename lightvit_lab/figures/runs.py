"""Training runs to read in a page without a kernel; the live box draws the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from ..errors import LabError, plain_numbers, require_range
from .axes import (BOTTOM, GLYPHS, TOP, Axis, across, chart, even, fixed, legend, line, stroke,
                   upward, x_ticks, y_ticks)
from .card import Card, card, require_finding, slider
from .curves import running_mean
from .display import COLOURS, HasOrigin
from .tables import html_table

__all__ = ["training_explorer"]

NAME = "Training curves"
LONGEST = 2000      # losses a run that a page carries; of longer runs, means of stretches
Points = Sequence[tuple[int, float]]


class Runs(NamedTuple):
    """Mean losses of stretches of `stretch` steps, by run; (step, accuracy) by run; all steps."""

    losses: dict[str, list[float]]
    scores: dict[str, list[tuple[int, float]]]
    stretch: int
    steps: int

    @property
    def count(self) -> int:
        """How many losses the longest run has."""
        return max(len(loss) for loss in self.losses.values())


@plain_numbers
def training_explorer(losses: Mapping[str, Sequence[float]],
                      scores: Mapping[str, Points] | None = None, *, finding: str | None = None,
                      stretch: int = 1, smooth: int = 9, steps: int = 0,
                      result: HasOrigin | None = None) -> Card:
    """Training loss of runs to smooth and read step by step, without a kernel.

    Validation accuracy stands next to it. `losses` in nats and `scores`, (step, accuracy), by run,
    as `training.fit`'s history has them; a loss may stand for a `stretch` of steps. The loss is a
    running mean over `smooth` values. The axis reaches to `steps` where a run is under way.
    `finding` says in one sentence what to find (None: how the losses end), `result` where the runs
    are from. Raises LabError on an empty finding, without losses, and on any that is not finite.
    """
    runs = pool_runs(losses, scores or {}, stretch, steps)
    finding = _finding(runs) if finding is None else finding
    require_finding("training_explorer", finding)
    require_range("training_explorer", "smooth", smooth, 1)
    smooth, last = min(smooth, longest_mean(runs)), runs.count - 1
    axes = {"x": x_axis(runs)._asdict(), "y": loss_axis(runs)._asdict()}
    data = {"names": list(runs.losses), "losses": list(runs.losses.values()),
            "stretch": runs.stretch, **axes}
    controls = (slider("smoothing", "smooth", 1, longest_mean(runs), smooth,
                       steps_text(smooth, runs))
                + slider("read at", "index", 0, last, last, f"step {(last + 1) * runs.stretch:,}"))
    return card("runs", NAME, controls=controls, drawing=loss_charts(runs, smooth, last),
                summary=loss_sentence(runs, smooth, last),
                finding=finding, data=data, table=loss_table(runs, smooth), result=result)


def _finding(runs: Runs) -> str:
    """How many losses end below where they began, and at what numbers they end."""
    ends = {name: loss[-1] for name, loss in runs.losses.items()}
    low, high = min(ends, key=ends.get), max(ends, key=ends.get)
    if len(ends) == 1:
        return f"The loss of {low} begins at {runs.losses[low][0]:.2f} and ends at {ends[low]:.2f}."
    falls = sum(loss[-1] < loss[0] for loss in runs.losses.values())
    return (f"Losses that end below where they began: {falls} of {len(ends)}; the lowest end is "
            f"{ends[low]:.2f} ({low}), the highest {ends[high]:.2f} ({high}).")


def pool_runs(losses: Mapping[str, Sequence[float]], scores: Mapping[str, Points], stretch: int = 1,
              steps: int = 0) -> Runs:
    """Runs ready to be drawn over `steps` steps, 0 for the longest; LabError without any."""
    require_range("training_explorer", "stretch", stretch, 1)
    if not losses or not all(len(loss) for loss in losses.values()):
        raise LabError(f"training_explorer: losses of {list(losses)}; give one run at least, and "
                       "of each some losses")
    for name, loss in losses.items():
        wrong = [value for value in loss if not math.isfinite(value)]
        if wrong:
            raise LabError(f"training_explorer: {name!r} has {len(wrong)} losses that are not "
                           "finite; leave out the run, or what follows the first of them")
    longest = max(len(loss) for loss in losses.values())
    pooled = math.ceil(longest / LONGEST)
    means, points = {name: _means(loss, pooled) for name, loss in losses.items()}, {}
    for name, found in scores.items():
        if found:
            points[name] = [(int(step), float(value)) for step, value in found]
    return Runs(means, points, stretch * pooled, max(steps, longest * stretch))


def _means(values: Sequence[float], pooled: int) -> list[float]:
    """Means of `pooled` values each, to four digits; the last may be of fewer."""
    parts = (values[start:start + pooled] for start in range(0, len(values), pooled))
    return [round(sum(part) / len(part), 4) for part in parts]


def loss_sentence(runs: Runs, smooth: int, index: int) -> str:
    """The losses at one place, in words; `runs.js` says the same."""
    there = [f"{name}: {fixed(running_mean(loss, smooth)[index], 3)}"
             for name, loss in runs.losses.items()
             if index < len(loss)]
    return (f"Training loss at step {(index + 1) * runs.stretch:,}, mean of the last "
            f"{steps_text(min(smooth, index + 1), runs)}. {'; '.join(there)}.")


def steps_text(values: int, runs: Runs) -> str:
    """How many steps so many losses stand for."""
    steps = values * runs.stretch
    return f"{steps:,} step{'s' * (steps != 1)}"


def longest_mean(runs: Runs) -> int:
    """The widest running mean that is offered: a quarter of the run."""
    return max(1, runs.count // 4)


def loss_charts(runs: Runs, smooth: int, index: int) -> str:
    """Loss, and validation accuracy if there is any, over steps; a line where it is read."""
    x, y = x_axis(runs), loss_axis(runs)
    paths = "".join(f'<path class="line" d="{_loss_line(runs, loss, smooth, x, y)}" '
                    f"{stroke(number)}/>"
                    for number, loss in enumerate(runs.losses.values()))
    place = x.at((index + 1) * runs.stretch)
    cursor = f'<path class="cursor" d="M{place:.1f} {TOP}V{BOTTOM}"/>'
    ticks = x_ticks(x, even(0, x.high), "step")
    names = list(runs.losses)
    alt = f"Training loss over {runs.steps:,} steps: {', '.join(names)}."
    charts = chart(alt, ticks + y_ticks(y, even(0, y.high), "training loss (nats)"), paths + cursor)
    if runs.scores:
        charts += _score_chart(runs, x, ticks, cursor)
    return f'{legend(names, glyphs=True)}<div class="lab-card-charts">{charts}</div>'


def _loss_line(runs: Runs, loss: Sequence[float], smooth: int, x: Axis, y: Axis) -> str:
    return line([(i + 1) * runs.stretch for i in range(len(loss))], running_mean(loss, smooth), x,
                y)


def _score_chart(runs: Runs, x: Axis, ticks: str, cursor: str) -> str:
    """Validation accuracy in percent, a marker for each score."""
    y, parts, names = upward(0, 103, log=False), "", list(runs.losses)
    for name, points in runs.scores.items():
        number = names.index(name) if name in names else len(names)
        steps, values = [step for step, _ in points], [100 * value for _, value in points]
        parts += f'<path class="line" d="{line(steps, values, x, y)}" {stroke(number)}/>'
        style = f'text-anchor="middle" style="fill:{COLOURS[number % len(COLOURS)]}"'
        glyph = GLYPHS[number % len(GLYPHS)]
        parts += "".join(f'<text x="{x.at(step):.1f}" y="{y.at(value) + 4:.1f}" '
                         f"{style}>{glyph}</text>"
                         for step, value in zip(steps, values))
    last = ", ".join(f"{escape(name)} {points[-1][1]:.1%}" for name, points in runs.scores.items())
    return chart(f"Validation accuracy over steps; at the end {last}.",
                 ticks + y_ticks(y, even(0, 100, 5), "validation accuracy (%)"), parts + cursor)


def x_axis(runs: Runs) -> Axis:
    """Steps from 0 to all, and room for the last marker."""
    return across(0, 1.03 * runs.steps, log=False)


def loss_axis(runs: Runs) -> Axis:
    """From 0 to the highest single loss, so that smoothing does not move the axis."""
    low, high = (end(map(end, runs.losses.values())) for end in (min, max))
    return upward(min(0.0, low), 1.05 * high if high > 0 else 1.0, log=False)


def loss_table(runs: Runs, smooth: int) -> str:
    """Losses at eleven places from the first to the last."""
    means = {name: running_mean(loss, smooth) for name, loss in runs.losses.items()}
    places = range(runs.count)
    if runs.count > 10:
        places = [step * (runs.count - 1) // 10 for step in range(11)]
    rows = []
    for at in places:
        losses = (fixed(loss[at], 3) if at < len(loss) else "" for loss in means.values())
        rows.append((f"{(at + 1) * runs.stretch:,}", *losses))
    return html_table("Training loss at some steps", ("step", *means), rows)
