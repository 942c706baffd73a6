"""Two models of your choice beside each other, live: counted, and timed on this machine if asked."""

from __future__ import annotations

import time
from typing import Any

import ipywidgets
import torch
from torch import nn

from .. import models, profiling
from ..errors import LabError, plain_numbers, require_range
from ..figures.card import Card, live
from ..figures.two_models import Compared, beside, compare_models as twin, gather, sentence
from ..survey import published
from .boxes import alert, status

_WIDE = {"description_width": "initial"}


@plain_numbers
def compare_models(first: str = "deit_tiny_patch16_224", second: str = "lightvit_tiny",
                   input_size: tuple[int, int, int] = (3, 224, 224),
                   budget_s: float = 5.0) -> ModelComparison:
    """A box in which readers name two models, the lab's or timm's, and see what each costs; a
    button times both.

    Both are counted on one picture of `input_size` = (channels, height, width), and timed on it in
    turns within `budget_s` seconds or so, with fresh weights. `.static(finding)` is the twin for a
    page without a kernel, of all models looked at. Readers choose the height; the width keeps its
    ratio. Raises LabError if `input_size` is no such triple of whole numbers from 1, or there is no
    time.
    """
    if not isinstance(input_size, (tuple, list)) or len(input_size) != 3:
        raise LabError(f"compare_models: input_size={input_size!r}; give (channels, height, width) of a picture")
    for name, value in zip(("channels", "height", "width"), input_size):
        require_range("compare_models", name, value, 1)
    require_range("compare_models", "budget_s", budget_s, 0.0)
    return ModelComparison(first, second, tuple(input_size), budget_s)


class ModelComparison(ipywidgets.VBox):
    """The box; made by `compare_models`. Its parts: `.first`, `.second`, `.size`, `.measure`,
    `.said`, ...
    """

    def __init__(self, first: str, second: str, picture: tuple[int, int, int],
                 budget_s: float) -> None:
        (self.channels, height, width), self.budget_s = picture, budget_s
        self.aspect = width / height
        self.first, self.second = (_field(label, name) for label, name in (("first", first), ("second", second)))
        self.size = ipywidgets.BoundedIntText(height, min=1, max=4096, style=_WIDE, continuous_update=False,
                                              description="pixels a side" if width == height else "pixels high")
        self.measure = ipywidgets.Button(description="measure both", button_style="primary")
        self.progress = ipywidgets.FloatProgress(0.0, min=0.0, max=1.0, description="measuring",
                                                 layout={"display": "none"})
        self.drawing, self.said, self.message = (ipywidgets.HTML() for _ in range(3))
        self.counts: dict[tuple[str, int], Compared] = {}       # by name and height
        self.times: dict[tuple[str, str, int], profiling.Timings] = {}
        top = ipywidgets.HBox([self.first, self.second, self.size, self.measure, self.progress],
                              layout={"flex_flow": "row wrap"})
        super().__init__([top, self.message, self.drawing, self.said])
        for part in (self.first, self.second, self.size):
            part.observe(self._refresh, "value")
        self.measure.on_click(self._measure)
        self._refresh()

    def static(self, finding: str) -> Card:
        """The twin for a page without a kernel: all models counted at this size. Raises LabError on
        fewer than two.
        """
        here = {name: row for (name, size), row in self.counts.items() if size == self.size.value}
        first, second = self._names()
        return twin(here, dict(zip((first, second), (self._times() or {}).values())), finding=finding,
                    first=first, second=second, image_size=self._published_size())

    def _picture(self) -> tuple[int, int, int]:
        """Channels, height, width of what both are counted and timed on."""
        return self.channels, self.size.value, max(1, round(self.size.value * self.aspect))

    def _published_size(self) -> int:
        """The side for which accuracies may be published; 0, for which none are, of pictures that
        are no squares.
        """
        _, height, width = self._picture()
        return height if height == width else 0

    def _names(self) -> tuple[str, str]:
        return self.first.value.strip(), self.second.value.strip()

    def _times(self) -> profiling.Timings | None:
        """What was measured of the two that are chosen."""
        return self.times.get((*self._names(), self.size.value))

    def _row(self, label: str, name: str) -> Compared:
        """One model's numbers: counted when it is first named, timed when both were."""
        size, times = self.size.value, self._times()
        if (name, size) not in self.counts:
            cost = profiling.count(unfilled(name), self._picture())
            self.counts[name, size] = gather(name, cost, image_size=self._published_size())
        row = self.counts[name, size]
        return row._replace(latency_ms=times[label].latency_ms, interval_ms=times[label].interval_ms) if times else row

    def _refresh(self, _: Any = None) -> None:
        """Show both. What cannot be shown is a message: in a callback, an exception is seen by no
        one.
        """
        try:
            (first, second), times = self._names(), self._times()
            one, two = self._row("first", first), self._row("second", second)
            ratio = times.ratio("second", "first") if times else None
            self.drawing.value = live(beside(first, one, second, two, {"latency_ms": ratio.value} if ratio else None))
            said = sentence(first, one, second, two, str(ratio) if ratio else "")
            self.said.value = status(said) + (status(_intervals(first, second, times)) if times else "")
            self.message.value = ""
        except Exception as error:
            self.drawing.value = self.said.value = ""
            self.message.value = alert(str(error))
        self.measure.disabled = bool(self.message.value)

    def _measure(self, _: Any = None) -> None:
        """Time both in turns; the bar says how much of the time is spent."""
        self.measure.disabled, self.progress.value, self.progress.layout.display = True, 0.0, ""
        first, second = self._names()
        try:
            pair = {"first": models.create_model(first), "second": models.create_model(second)}
            picture = torch.randn(1, *self._picture())
            found = profiling.measure(pair, picture, budget_s=self.budget_s, watch=_Progress(self.progress))
            self.times[first, second, self.size.value] = found
            self._refresh()
        except Exception as error:
            self.message.value = alert(f"measure: {error}")
        finally:
            self.measure.disabled, self.progress.layout.display = False, "none"


def unfilled(name: str) -> nn.Module:
    """A model without memory for its weights, where it can be built so. Raises LabError on unknown
    names.
    """
    try:
        with torch.device("meta"):
            return models.create_model(name)
    except (RuntimeError, NotImplementedError):      # some constructors read numbers, and there are none
        return models.create_model(name)


def _field(label: str, name: str) -> ipywidgets.Combobox:
    """A text field that suggests the lab's models and those with published numbers; timm's others
    can be typed.
    """
    known = [*models.names(), *(row.model.partition(".")[0] for row in published())]
    return ipywidgets.Combobox(value=name, options=list(dict.fromkeys(known)), description=label,
                               placeholder="a model's name", continuous_update=False)


def _intervals(first: str, second: str, times: profiling.Timings) -> str:
    """Both times with their intervals, and where and how they were measured."""
    one, two = (f"{name} {time.latency_ms:.1f} ms ({time.interval_ms[0]:.1f} to {time.interval_ms[1]:.1f})"
                for name, time in zip((first, second), times.values()))
    return f"Medians with 95 % intervals: {one}, {two}; {times['first'].machine}; {times.stopped}."


class _Progress:
    """Moves a bar at most five times a second, so that the browser's news do not disturb what is
    timed.
    """

    def __init__(self, bar: ipywidgets.FloatProgress) -> None:
        self.bar, self.last = bar, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.last > 0.2 or share == 1:
            self.bar.value, self.last = share, time.monotonic()
