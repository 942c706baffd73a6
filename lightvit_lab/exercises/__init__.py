"""Exercises and predictions: `check("vision_transformer.patchify", my_function)`, `predict(...)`.

The page of an exercise holds its title, prompt and solution; `exercises/<part>/<stem>.py` declares
its points and its cases, as a tuple `EXERCISES`; `exercises/answers/<part>/<stem>.py` declares
wrong answers with their hints. `progress()` shows how the exercises went.
"""

from .engine import (Answers, CheckResult, Exercise, Known, OpenExercise, Posed, all_exercises,
                     check, examine, find, open_exercises, page_of, reset)
from .prediction import Prediction, predict
from .progress_table import Progress, forget_progress, progress

__all__ = ["Answers", "CheckResult", "Exercise", "Known", "OpenExercise", "Posed", "Prediction",
           "Progress", "all_exercises", "check", "examine", "find", "forget_progress",
           "open_exercises", "page_of", "predict", "progress", "reset"]
