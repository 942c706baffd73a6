"""Training curves that grow while `training.fit` runs: `fit(..., watch=box.follow("my run"))`."""

from __future__ import annotations

import time
from collections.abc import Callable

from IPython.display import HTML, display

from ..errors import LabError, plain_numbers
from ..figures.card import Card
from ..figures.runs import training_explorer
from ..training import History
from .boxes import alert, status

EVERY_S = 1.0       # between two drawings of a run under way; one takes a hundredth of that
FINDING = "What is drawn is what has been trained so far."


@plain_numbers
def training_curves(smooth: int = 9) -> TrainingCurves:
    """A box that follows runs of `training.fit`, one or several in turn: show it, then train.

        box = training_curves()
        display(box)
        history = training.fit(model, train, validation=val, checks=5, watch=box.follow("patch"))

    It is the page's card, `figures.training_explorer`, drawn anew as the run grows; its sliders
    need no kernel, so they answer while a cell runs. The loss is a running mean over `smooth`
    steps.
    """
    return TrainingCurves(smooth)


class TrainingCurves:
    """The box; made by `training_curves`. `.card()` is what it shows."""

    def __init__(self, smooth: int = 9) -> None:
        self.smooth, self.histories = smooth, {}
        self.steps, self._drawn, self._display = 0, 0.0, None

    def follow(self, label: str) -> Callable[[History, int], None]:
        """What `training.fit` takes as `watch`: draws the run as `label`, replacing an older."""
        self.histories.pop(label, None)

        def watch(history: History, steps: int) -> None:
            self.histories[label] = history
            self.steps = max(self.steps, steps)
            if len(history.loss) >= steps or time.monotonic() - self._drawn > EVERY_S:
                self._drawn = time.monotonic()
                self._draw()
        return watch

    def card(self, finding: str = FINDING) -> Card:
        """The runs so far, as a card. Raises LabError before there is one."""
        losses, scores = {}, {}
        for label, history in self.histories.items():
            losses[label] = history.loss
            scores[label] = [(step, score.accuracy) for step, score in history.scores]
        return training_explorer(losses, scores, finding=finding, smooth=self.smooth,
                                 steps=self.steps)

    def shown(self) -> Card | HTML:
        """The card; or how to start a run, or why one cannot be drawn."""
        if not self.histories:
            return HTML(status("No run yet: training.fit(model, data, "
                               'watch=box.follow("my run")) draws one.'))
        try:
            return self.card()
        except LabError as error:        # the run goes on all the same
            return HTML(alert(str(error)))

    def _ipython_display_(self) -> None:
        self._display = display(self.shown(), display_id=True)

    def _draw(self) -> None:
        if self._display is not None:
            self._display.update(self.shown())
