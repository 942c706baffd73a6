"""Training of exits: every exit on the labels, and the end teaching the earlier ones.

Teaching between exits is that of Phuong and Lampert, Distillation-based training for multi-exit
architectures (ICCV 2019), and of Zhang et al., Be Your Own Teacher, arXiv 1905.08094. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import plain_numbers, require_range
from ...training import Batch, History, fit, label_loss
from .exits import EarlyExitViT, require_exits


@plain_numbers
@dataclass(frozen=True)
class ExitObjective:
    """The labels' loss, a mean over exits, and `teach` times the divergence of exits from the end.

    No gradient reaches the end through what it teaches. `temperature` T softens both sides, and the
    divergence, a mean over the early exits, is multiplied by T^2, as in arXiv 1503.02531.
    """

    teach: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        require_range("ExitObjective", "teach", self.teach, 0)
        require_range("ExitObjective", "temperature", self.temperature, 1e-6)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        *early, end = (logits.float() for logits in model(batch.inputs, every=True))
        labels = sum(label_loss(logits, batch) for logits in (*early, end)) / (len(early) + 1)
        divergence = sum(self._divergence(logits, end.detach()) for logits in early) / len(early)
        taught = self.teach * divergence
        return labels + taught, end, {"labels": labels, "end teaches": taught}

    def _divergence(self, early: Tensor, end: Tensor) -> Tensor:
        ours, theirs = (F.log_softmax(logits / self.temperature, 1) for logits in (early, end))
        return self.temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def train_exits(model: EarlyExitViT, data: Pictures, objective: ExitObjective | None = None,
                whole: bool = True, **settings: Any) -> History:
    """Train `model` in place on `data` by `training.fit`, whose `settings` are taken.

    `whole=False` trains the exits alone, and the logits at the end stay as they were. Raises
    LabError if there are no exits, and what `fit` refuses.
    """
    model = require_exits("train_exits", model)
    frozen = [] if whole else model.parameters_without_exits()
    frozen = [value for value in frozen if value.requires_grad]
    try:
        for value in frozen:
            value.requires_grad_(False)
        return fit(model, data, objective=objective or ExitObjective(), **settings)
    finally:
        for value in frozen:
            value.requires_grad_(True)
