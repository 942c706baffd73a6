"""Training and scoring: `fit(model, data)`, `evaluate(model, data)`."""

from .loop import History, fit
from .scores import Score, evaluate, mean_interval, wilson_interval

__all__ = ["History", "Score", "evaluate", "fit", "mean_interval", "wilson_interval"]
