"""Training of exits: every exit on the labels, and the end teaching the earlier ones.

Teaching between exits is that of Phuong and Lampert, Distillation-based training for multi-exit
architectures (ICCV 2019), and of Zhang et al., Be Your Own Teacher, arXiv 1905.08094. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_range
from ...training import Batch, History, fit, label_loss
from .exits import EarlyExitViT, require_exits


@plain_numbers
@dataclass(frozen=True)
class ExitObjective:
    """Mean over the exits of the labels' loss, and `teach` times the mean divergence of the early
    ones from the end.

    No gradient reaches the end through what it teaches. `temperature` T softens both sides, and the
    divergence is multiplied by T^2, as in arXiv 1503.02531.
    """

    teach: float = 1.0
    temperature: float = 2.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_range("ExitObjective", "teach", self.teach, 0)
        require_range("ExitObjective", "temperature", self.temperature, 1e-6)
        require_range("ExitObjective", "label_smoothing", self.label_smoothing, 0, 1)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        every = [logits.float() for logits in model(batch.inputs, every=True)]
        labels = sum(label_loss(logits, batch, self.label_smoothing) for logits in every) / len(every)
        taught = self.teach * sum(self._divergence(logits, every[-1]) for logits in every[:-1]) / (len(every) - 1)
        return labels + taught, every[-1], {"labels": labels, "end teaches": taught}

    def _divergence(self, early: Tensor, end: Tensor) -> Tensor:
        ours, theirs = (F.log_softmax(logits / self.temperature, 1) for logits in (early, end.detach()))
        return self.temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def train_exits(model: EarlyExitViT, data: Pictures, objective: ExitObjective | None = None,
                whole: bool = True, **settings: Any) -> History:
    """Train `model` in place on `data` by `training.fit` with `objective`; `settings` are those of
    `fit`.

    `whole=False` trains the exits alone, and the model behind them says what it said before. Raises
    LabError if there are no exits, and what `fit` refuses.
    """
    model = require_exits("train_exits", model)
    if "objective" in settings or "label_smoothing" in settings:
        raise LabError("train_exits: smooth in the objective, ExitObjective(label_smoothing=0.1)")
    objective = objective or ExitObjective()
    if whole:
        return fit(model, data, objective=objective, **settings)
    with only_exits(model):
        return fit(model, data, objective=objective, **settings)


@contextmanager
def only_exits(model: EarlyExitViT) -> Iterator[None]:
    """While this lasts, the exits alone learn; afterwards each parameter learns as before."""
    own = {id(value) for head in model.exits for value in head.parameters()}
    before = [(value, value.requires_grad) for value in model.parameters()]
    try:
        for value, learns in before:
            value.requires_grad_(learns and id(value) in own)
        yield
    finally:
        for value, learns in before:
            value.requires_grad_(learns)
