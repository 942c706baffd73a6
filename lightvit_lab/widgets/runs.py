"""Training curves that grow during `training.fit`: `fit(..., callback=box.follow("my run"))`."""

from __future__ import annotations

import time
from collections.abc import Callable

import ipywidgets

from ..errors import plain_numbers
from ..figures.card import Card, live
from ..figures.runs import loss_charts, loss_sentence, loss_table, pool_runs, training_explorer
from ..training import History
from .boxes import WIDE, Box, status

EVERY_S = 0.5       # between two drawings of a run under way; one takes a hundredth of that
SMOOTHEST = 200     # steps


@plain_numbers
def training_curves(smooth: int = 9) -> TrainingCurves:
    """A box that follows runs of `training.fit`, one or several in turn: show it, then train.

        box = training_curves()
        display(box)
        history = training.fit(model, train, validation=val, checks=5, callback=box.follow("patch"))

    The loss is a running mean over `smooth` steps. While a cell runs, Jupyter holds back what the
    sliders say until it has ended. `.static(finding)` is the twin for a page without a kernel.
    """
    return TrainingCurves(smooth)


class TrainingCurves(Box):
    """The box; made by `training_curves`. Its controls are `.smooth` and `.step`."""

    def __init__(self, smooth: int = 9) -> None:
        self.histories: dict[str, History] = {}
        self.steps, self._drawn = 0, 0.0
        self.smooth = ipywidgets.IntSlider(min(smooth, SMOOTHEST), 1, SMOOTHEST,
                                           description="smoothing, steps", style=WIDE)
        self.step = ipywidgets.IntSlider(1, 1, 1, description="read at step", style=WIDE)
        super().__init__(self.smooth, self.step)

    def follow(self, label: str) -> Callable[[History, int], None]:
        """What `training.fit` takes as `callback`: draws the run as `label`, replacing an older."""
        self.histories.pop(label, None)

        def callback(history: History, steps: int) -> None:
            self.histories[label] = history
            self.steps = max(self.steps, steps)
            if len(history.loss) >= steps or time.monotonic() - self._drawn > EVERY_S:
                self._drawn = time.monotonic()
                self._grow()
        return callback

    def static(self, finding: str) -> Card:
        """The twin for a page, of the runs so far; `finding` says in one sentence what to find."""
        return training_explorer(*self._curves(), finding=finding, smooth=self.smooth.value)

    def _curves(self) -> tuple[dict[str, list[float]], dict[str, list[tuple[int, float]]]]:
        """Losses, and (step, accuracy), by run."""
        losses, scores = {}, {}
        for label, history in self.histories.items():
            losses[label] = history.loss
            scores[label] = [(step, score.accuracy) for step, score in history.scores]
        return losses, scores

    def _grow(self) -> None:
        """Give the slider the new steps; it stays at the end if it was there."""
        longest = max(len(history.loss) for history in self.histories.values())
        at_end = self.step.value == self.step.max
        self.step.max = longest
        if at_end and self.step.value != longest:
            self.step.value = longest            # draws
        else:
            self._refresh()

    def draw(self) -> None:
        """Draw the runs so far."""
        if not self.histories:
            self.summary.value = status("No run yet: training.fit(model, data, "
                                        'callback=box.follow("my run")) draws one.')
            return
        runs = pool_runs(*self._curves(), steps=self.steps)
        place = (self.step.value - 1) // runs.stretch
        smooth = -(-self.smooth.value // runs.stretch)
        self.drawing.value = live(loss_charts(runs, smooth, place))
        self.summary.value = status(loss_sentence(runs, smooth, place))
        self.values.value = live(loss_table(runs, smooth)) if self.table.value else ""
