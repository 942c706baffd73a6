"""Exercises and predictions: `check("vision_transformer.patchify", my_function)` and `predict(question, answer=value)`.

One file per page declares its exercises, `exercises/<part>/<stem>.py`, as a tuple `EXERCISES`.
"""

from .engine import CheckResult, Exercise, Mistake, all_exercises, check, examine, find, reset
from .prediction import Prediction, predict

__all__ = ["CheckResult", "Exercise", "Mistake", "Prediction", "all_exercises", "check", "examine", "find", "predict",
           "reset"]
