"""Exercises and predictions: `check("vision_transformer.patchify", my_function)` and
`predict(question, answer=value)`.

An exercise is said once: title, prompt, solution on its page; points and cases in
`exercises/<part>/<stem>.py`, as a tuple `EXERCISES`; wrong answers and their hints in
`exercises/answers/<part>/<stem>.py`. `progress()` shows how they went.
"""

from .engine import (Answers, CheckResult, Exercise, Known, OpenExercise, Posed, all_exercises, check, examine, find,
                     open_exercises, page_of, reset)
from .prediction import Prediction, predict
from .progress_table import Progress, forget_progress, progress

__all__ = ["Answers", "CheckResult", "Exercise", "Known", "OpenExercise", "Posed", "Prediction", "Progress",
           "all_exercises", "check", "examine", "find", "forget_progress", "open_exercises", "page_of", "predict",
           "progress", "reset"]
