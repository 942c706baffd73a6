"""Two models of your choice, compared live: counted, and timed on this machine if asked."""

from __future__ import annotations

import time
from typing import Any

import ipywidgets
import torch
from torch import nn

from .. import models, profiling
from ..errors import LabError, plain_numbers, require_range
from ..figures.card import Card, live
from ..figures.two_models import Compared, compared, comparison_sentence, comparison_table
from ..figures.two_models import compare_models as twin
from ..survey import published
from .boxes import WIDE, Box, alert, status


@plain_numbers
def compare_models(first: str = "deit_tiny_patch16_224", second: str = "lightvit_tiny",
                   input_size: tuple[int, int, int] = (3, 224, 224),
                   budget_s: float = 5.0) -> ModelComparison:
    """A box in which readers name two models, the lab's or timm's, and read what each costs.

    Both are counted on one picture of `input_size` = (channels, height, width); a button times them
    on it in turns within `budget_s` seconds or so, with fresh weights. `.static(finding)` is the
    twin for a page without a kernel, of all models named so far. Readers choose the height; the
    width keeps its ratio. Raises LabError if `input_size` is no such triple of whole numbers from
    1, or there is no time.
    """
    if not isinstance(input_size, (tuple, list)) or len(input_size) != 3:
        raise LabError(f"compare_models: input_size={input_size!r}; give (channels, height, width)")
    for name, value in zip(("channels", "height", "width"), input_size):
        require_range("compare_models", name, value, 1)
    require_range("compare_models", "budget_s", budget_s, 0.0)
    return ModelComparison(first, second, tuple(input_size), budget_s)


class ModelComparison(Box):
    """The box; made by `compare_models`. Its controls: `.first`, `.second`, `.size`, `.measure`."""

    def __init__(self, first: str, second: str, picture: tuple[int, int, int],
                 budget_s: float) -> None:
        (self.channels, height, width), self.budget_s = picture, budget_s
        self.aspect = width / height
        self.counts: dict[tuple[str, int], Compared] = {}       # by name and height
        self.times: dict[tuple[str, str, int], profiling.Timings] = {}
        self.first, self.second = _name_field("first", first), _name_field("second", second)
        self.size = ipywidgets.BoundedIntText(
            height, min=1, max=4096, style=WIDE, continuous_update=False,
            description="pixels a side" if width == height else "pixels high")
        self.measure = ipywidgets.Button(description="measure both", button_style="primary")
        self.measure.on_click(self._measure)
        self.progress = ipywidgets.FloatProgress(0.0, min=0.0, max=1.0, description="measuring",
                                                 layout={"display": "none"})
        super().__init__(self.first, self.second, self.size, others=[self.measure, self.progress])
        self.children = self.children[:4]                       # the drawing is a table already

    def static(self, finding: str) -> Card:
        """The twin for a page: all models counted at this size; LabError on fewer than two."""
        rows = {name: row for (name, size), row in self.counts.items() if size == self.size.value}
        first, second = self._names()
        times = dict(zip((first, second), (self._times() or {}).values()))
        return twin(rows, times, finding=finding, first=first, second=second,
                    image_size=self._published_size())

    def _picture(self) -> tuple[int, int, int]:
        """Channels, height, width of what both are counted and timed on."""
        return self.channels, self.size.value, max(1, round(self.size.value * self.aspect))

    def _published_size(self) -> int:
        """The side for which accuracies may be published; 0, for none are, if it is no square."""
        _, height, width = self._picture()
        return height if height == width else 0

    def _names(self) -> tuple[str, str]:
        return self.first.value.strip(), self.second.value.strip()

    def _times(self) -> profiling.Timings | None:
        """What was measured of the two that are chosen."""
        return self.times.get((*self._names(), self.size.value))

    def _row(self, label: str, name: str) -> Compared:
        """One model's numbers: counted when it is first named, timed when both were."""
        key, times = (name, self.size.value), self._times()
        if key not in self.counts:
            cost = profiling.count(empty_model(name), self._picture())
            self.counts[key] = compared(name, cost, image_size=self._published_size())
        if not times:
            return self.counts[key]
        return self.counts[key]._replace(latency_ms=times[label].latency_ms,
                                         interval_ms=times[label].interval_ms)

    def draw(self) -> None:
        """Draw both, with the ratio of their times where they were measured."""
        (first, second), times = self._names(), self._times()
        one, two = self._row("first", first), self._row("second", second)
        ratio = times.ratio("second", "first") if times else None
        paired = {"latency_ms": ratio.value} if ratio else None
        self.drawing.value = live(comparison_table(first, one, second, two, paired))
        text = comparison_sentence(first, one, second, two, str(ratio) if ratio else "")
        self.summary.value = status(text)
        if times:
            self.summary.value += status(_intervals(first, second, times))

    def _refresh(self, _: Any = None) -> None:
        super()._refresh()
        if self.message.value:
            self.drawing.value = self.summary.value = ""
        self.measure.disabled = bool(self.message.value)

    def _measure(self, _: Any = None) -> None:
        """Time both in turns; the bar says how much of the time is spent."""
        self.measure.disabled, self.progress.value, self.progress.layout.display = True, 0.0, ""
        first, second = self._names()
        try:
            pair = {"first": models.create_model(first), "second": models.create_model(second)}
            picture = torch.randn(1, *self._picture())
            self.times[first, second, self.size.value] = profiling.measure(
                pair, picture, budget_s=self.budget_s, callback=_Progress(self.progress))
            self._refresh()
        except Exception as error:
            self.message.value = alert(f"measure: {error}")
        finally:
            self.measure.disabled, self.progress.layout.display = False, "none"


def empty_model(name: str) -> nn.Module:
    """A model on the meta device, without memory for weights, if it can be built so; else whole."""
    try:
        with torch.device("meta"):
            return models.create_model(name)
    except (RuntimeError, NotImplementedError):      # constructors that read numbers find none
        return models.create_model(name)


def _name_field(label: str, name: str) -> ipywidgets.Combobox:
    """A text field that suggests the lab's models and the published ones; others can be typed."""
    known = [*models.names(), *(row.model.partition(".")[0] for row in published())]
    return ipywidgets.Combobox(value=name, options=list(dict.fromkeys(known)), description=label,
                               placeholder="a model's name", continuous_update=False)


def _intervals(first: str, second: str, times: profiling.Timings) -> str:
    """Both times with their intervals, and where and how they were measured."""
    one, two = (f"{name} {time.latency_ms:.1f} ms ({time.interval_ms[0]:.1f} to "
                f"{time.interval_ms[1]:.1f})"
                for name, time in zip((first, second), times.values()))
    machine, stopped = times["first"].machine, times.stopped
    return f"Medians with 95 % intervals: {one}, {two}; {machine}; {stopped}."


class _Progress:
    """Moves a bar at most five times a second: more messages would disturb what is timed."""

    def __init__(self, bar: ipywidgets.FloatProgress) -> None:
        self.bar, self.last = bar, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.last > 0.2 or share == 1:
            self.bar.value, self.last = share, time.monotonic()
