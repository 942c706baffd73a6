"""Exercises and predictions: `check("vision_transformer.patchify", my_function)` and
`predict(question, answer=value)`.

One file per page declares its exercises, `exercises/<part>/<stem>.py`, as a tuple `EXERCISES`.
`progress()` shows how they went.
"""

from .engine import CheckResult, Exercise, Mistake, all_exercises, check, examine, find, page_of, reset
from .prediction import Prediction, predict
from .progress_table import Progress, forget_progress, progress

__all__ = ["CheckResult", "Exercise", "Mistake", "Prediction", "Progress", "all_exercises", "check", "examine", "find",
           "forget_progress", "page_of", "predict", "progress", "reset"]
