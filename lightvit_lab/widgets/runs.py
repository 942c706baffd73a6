"""Training curves that grow while `training.fit` runs: `fit(..., watch=box.follow("my run"))`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from ..errors import plain_numbers
from ..figures.card import Card, live
from ..figures.runs import drawing, gather, loss_table, sentence, training_explorer
from ..training import History
from .boxes import alert, status

EVERY_S = 0.5       # between two drawings of a run under way; one takes a hundredth of that
SMOOTHEST = 200     # steps


@plain_numbers
def training_curves(smooth: int = 9) -> TrainingCurves:
    """A box that follows runs of `training.fit`, one or several one after the other: show it, then
    train.

        box = training_curves()
        display(box)
        history = training.fit(model, train, validation=val, checks=5, watch=box.follow("patch"))

    The loss is a running mean over `smooth` steps. While a cell runs, Jupyter holds back what the
    sliders say until it has ended. `.static(finding)` is the twin for a page without a kernel.
    """
    return TrainingCurves(smooth)


class TrainingCurves(ipywidgets.VBox):
    """The box; made by `training_curves`. Its parts are attributes: `.smooth`, `.step`, `.table`,
    `.said`, ...
    """

    def __init__(self, smooth: int = 9) -> None:
        self.histories: dict[str, History] = {}
        self.steps, self._drawn = 0, 0.0
        self.smooth = ipywidgets.IntSlider(min(smooth, SMOOTHEST), 1, SMOOTHEST, description="smoothing, steps",
                                           style={"description_width": "initial"})
        self.step = ipywidgets.IntSlider(1, 1, 1, description="read at step", style={"description_width": "initial"})
        self.table = ipywidgets.ToggleButton(False, description="data table")
        self.drawing, self.said, self.message, self.values = (ipywidgets.HTML() for _ in range(4))
        top = ipywidgets.HBox([self.smooth, self.step], layout={"flex_flow": "row wrap"})
        super().__init__([top, self.message, self.drawing, self.said, self.table, self.values])
        for part in (self.smooth, self.step, self.table):
            part.observe(self._refresh, "value")
        self._refresh()

    def follow(self, label: str) -> Callable[[History, int], None]:
        """What `training.fit` takes as `watch`: the run is drawn under `label`, in place of an
        older such run.
        """
        self.histories.pop(label, None)

        def watch(history: History, steps: int) -> None:
            self.histories[label] = history
            self.steps = max(self.steps, steps)
            ended = len(history.loss) >= steps
            if ended or time.monotonic() - self._drawn > EVERY_S:
                self._drawn = time.monotonic()
                self._grow()
        return watch

    def static(self, finding: str) -> Card:
        """The twin for a page without a kernel, of the runs so far; `finding` says in one sentence
        what to find.
        """
        return training_explorer(self._losses(), self._scores(), finding=finding, smooth=self.smooth.value)

    def _losses(self) -> dict[str, list[float]]:
        return {label: history.loss for label, history in self.histories.items()}

    def _scores(self) -> dict[str, list[tuple[int, float]]]:
        return {label: [(step, score.accuracy) for step, score in history.scores]
                for label, history in self.histories.items()}

    def _grow(self) -> None:
        """Give the cursor the new steps; it stays at the end if it was there."""
        longest, at_end = max(map(len, self._losses().values())), self.step.value == self.step.max
        self.step.max = longest
        if at_end and self.step.value != longest:
            self.step.value = longest            # draws
        else:
            self._refresh()

    def _refresh(self, _: Any = None) -> None:
        """Draw what there is. A failure is a message: it must not end a run."""
        if not self.histories:
            self.said.value = status('No run yet: training.fit(model, data, watch=box.follow("my run")) draws one.')
            return
        try:
            runs = gather(self._losses(), self._scores(), steps=self.steps)
            place, smooth = (self.step.value - 1) // runs.stretch, -(-self.smooth.value // runs.stretch)
            self.drawing.value = live(drawing(runs, smooth, place))
            self.said.value = status(sentence(runs, smooth, place))
            self.values.value = live(loss_table(runs, smooth)) if self.table.value else ""
            self.message.value = ""
        except Exception as error:
            self.message.value = alert(str(error))
