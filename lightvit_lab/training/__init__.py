"""Training and scoring: `fit(model, data)`, `evaluate(model, data)`."""

from .augment import Batch
from .loop import History, fit
from .objectives import label_loss
from .scores import Score, evaluate, mean_interval, paired_interval, wilson_interval

__all__ = ["Batch", "History", "Score", "evaluate", "fit", "label_loss", "mean_interval",
           "paired_interval", "wilson_interval"]
