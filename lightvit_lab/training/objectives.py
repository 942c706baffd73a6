"""Objectives of a step: functions of (model, batch), to a loss, or (loss, logits[, terms])."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import plain_numbers, require_logits
from .augment import Batch

Objective = Callable[[nn.Module, Batch],
                     "Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, dict[str, Tensor]]"]


def label_loss(logits: Tensor, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, classes); of a mixed batch, with both labels by their shares."""
    logits = logits.float()   # a softmax in half precision loses small losses
    return batch.by_labels(lambda labels: F.cross_entropy(logits, labels,
                                                          label_smoothing=label_smoothing))


@plain_numbers
def label_objective(label_smoothing: float = 0.0) -> Objective:
    """The default objective of `fit`: call the model once, score its logits by `label_loss`."""
    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = require_logits("fit", model, model(batch.inputs))
        return label_loss(logits, batch, label_smoothing), logits
    return objective


def share_right(logits: Tensor, batch: Batch) -> Tensor:
    """Share of the batch classified right; a mixed picture counts by the share of that label."""
    guess = logits.argmax(1)
    return batch.by_labels(lambda labels: (guess == labels).float().mean())
