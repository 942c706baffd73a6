"""Predict first: the reader commits to a guess, then sees the answer and how far off the guess was.

One HTML output works in the built page, JupyterLab and Colab: no kernel, no other file, no request.
On a page of the book, the outputs that show the answer stay covered until the reader commits or
asks to see them; on paper and without JavaScript they are not. The guess stays in the browser
(localStorage), where the page "Your guesses" finds it. Without JavaScript the answer stands in a
fold.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from ..errors import LabError, plain_numbers, require_choice, require_range, require_whole
from ..errors import number as as_number
from .boxes import box_style, inline

DISTANCES = ("factor", "points")
_CONTROL = ("font:inherit;color:inherit;background:transparent;border:1px solid "
            "currentColor;border-radius:3px;padding:.2em .6em")


@dataclass(frozen=True, repr=False)
class Prediction:
    """One question with its answer; HTML in notebooks, the bare question in terminals."""

    question: str
    answer: float | str
    unit: str = ""
    choices: tuple[str, ...] | None = None
    tolerance: float = 0.0
    explain: str = ""
    distance: str = "factor"
    hides: int = 1
    key: str | None = None

    @property
    def id(self) -> str:
        """The question's own id, the same in every session: the guess is kept under it."""
        text = self.question if self.key is None else self.key
        return "lab-predict-" + hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def shown_answer(self) -> str:
        """The answer as it is shown, with its unit."""
        return str(self.answer) if self.choices else _with_unit(_digits(self.answer), self.unit)

    def reveal(self, guess: float | str) -> str:
        """Commit to a guess and read the answer. Raises LabError on no number or no choice."""
        if self.choices:
            guess = str(guess)
            require_choice("reveal", "guess", guess, self.choices)
            verdict = "right" if guess == self.answer else f"it is {self.answer}"
            text = f"You said {guess}: {verdict}."
        else:
            number = _number("reveal", "guess", guess)
            text = _with_unit(_digits(number), self.unit)
            text = f"You said {text}, it is {self.shown_answer}: {self._verdict(number)}."
        return f"{text} {self.explain}".strip()

    def _verdict(self, guess: float) -> str:
        """How far off a guess is; `prediction.js` says the same in the browser."""
        points = abs(guess - self.answer)
        if points <= self.tolerance * (1 if self.distance == "points" else abs(self.answer)):
            return "right"
        way = "low" if guess < self.answer else "high"
        if self.distance == "points":
            return f"{_fixed(points, 1 if points < 10 else 0)} points too {way}"
        if guess * self.answer <= 0:
            return f"too {way}"   # no factor leads from or to zero, or across it
        factor = max(guess / self.answer, self.answer / guess)
        if factor < 1.005:
            return f"slightly too {way}"
        return f"{_fixed(factor, 2 if factor < 2 else 1 if factor < 100 else 0)} times too {way}"

    def __repr__(self) -> str:
        form, guess = f" (in {self.unit})" if self.unit else "", "10"
        if self.choices:
            form, guess = f" Choices: {', '.join(self.choices)}.", repr(self.choices[0])
        return (f"Predict first: {self.question}{form}\n"
                f"    Commit to a guess to see the answer: print(_.reveal({guess})), with your own "
                "guess.")

    def _repr_html_(self) -> str:
        script = _script().replace("LAB_PREDICT_ID", self.id)
        return (f'<div class="lab-predict" id="{self.id}" role="group" '
                f'aria-labelledby="{self.id}-question" data-lm-suppress-shortcuts="true" '
                f'{self._data()} style="{box_style("predict")}">{self._form()}'
                '<div role="status" aria-live="polite" class="lab-predict-reveal"></div>'
                '<button type="button" class="lab-predict-again" hidden '
                f'style="{_CONTROL}">Guess again</button>'
                '<details class="lab-predict-fold"><summary>The answer</summary>'
                f"{inline(self.shown_answer)}. {inline(self.explain)}</details></div>"
                f"<script>{script}</script>")

    def _data(self) -> str:
        """What the script reads, as data attributes."""
        values = {"key": self.id.replace("lab-predict-", "lightvit-lab:predict:"),
                  "answer": self.answer, "shown": self.shown_answer, "unit": self.unit,
                  "tolerance": self.tolerance, "explain": self.explain,
                  "kind": "choice" if self.choices else "number", "question": self.question,
                  "options": len(self.choices or ()), "distance": self.distance,
                  "hides": self.hides}
        return " ".join(f'data-{name}="{escape(str(value))}"' for name, value in values.items())

    def _form(self) -> str:
        question = (f'<div id="{self.id}-question"><strong>Predict first.</strong> '
                    f"{inline(self.question)}</div>")
        field = self._radios() if self.choices else self._number_field()
        return (f'{question}<form hidden style="margin:.3em 0 0">{field}'
                f'<button type="button" class="lab-predict-commit" style="{_CONTROL}">Commit'
                "</button></form>")

    def _number_field(self) -> str:
        return ('<label>Your guess <input type="number" step="any" inputmode="decimal" '
                f'class="lab-predict-guess" style="{_CONTROL};width:9em"></label> '
                f"{escape(self.unit)} ")

    def _radios(self) -> str:
        radios = "".join('<label style="display:block">'
                         f'<input type="radio" name="{self.id}" value="{escape(choice)}"> '
                         f"{inline(choice)}</label>" for choice in self.choices)
        return ('<fieldset style="border:0;margin:0;padding:0">'
                f'<legend style="font:inherit;padding:0">Your guess</legend>{radios}</fieldset>')


@plain_numbers
def predict(question: str, answer: float | str, *, unit: str = "", choices: list[str] | None = None,
            tolerance: float | None = None, explain: str = "", distance: str = "factor",
            hides: int = 1, key: str | None = None) -> Prediction:
    """Ask for a guess before the answer is seen.

    `answer` is a finite number in `unit`, or one of `choices`. `distance` is the unit of an error:
    a "factor", as costs are, or "points", as accuracies in percent are. `tolerance` is the
    error that still counts as right, relative or in points (None: 1 point; by factor
    0.01, and none for a whole number, which is a count). `explain` follows the answer. The
    outputs of the next `hides` cells of the page that have one stay covered until a guess is made,
    also to any other question that covers them.
    The guess is kept by the question's text, or by `key`: give each question one of its own where
    the text holds a measured number. Raises LabError on an empty question or key, no finite answer,
    or an answer that is no choice.
    """
    if not isinstance(question, str) or not question.strip():
        raise LabError(f"predict: question={question!r}; give the question as text")
    if key is not None and not (isinstance(key, str) and key.strip()):
        raise LabError(f"predict: key={key!r}; give a text that no other question has, or None")
    if tolerance is not None:
        require_range("predict", "tolerance", tolerance, 0)
    require_choice("predict", "distance", distance, DISTANCES)
    require_whole("predict", "hides", hides, 0)
    if choices is None:
        number = _number("predict", "answer", answer)
        if tolerance is None:
            by_factor = 0.0 if float(number).is_integer() else 0.01
            tolerance = 1.0 if distance == "points" else by_factor
        return Prediction(question, number, unit, None, tolerance, explain, distance, hides,
                          key)
    choices = tuple(str(choice) for choice in choices)
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise LabError(f"predict: choices={list(choices)!r}; give at least two, each only once")
    require_choice("predict", "answer", str(answer), choices)
    return Prediction(question, str(answer), unit, choices, explain=explain, hides=hides,
                      key=key)


def _number(caller: str, argument: str, value: Any) -> int | float:
    """A finite Python number out of a number, or a tensor or array of one element."""
    if hasattr(value, "item") and math.prod(value.shape) == 1:
        value = value.item()
    found = as_number(value)
    if found is None or not math.isfinite(found):
        raise LabError(f"{caller}: {argument}={value!r}; give a finite number")
    return found


def _digits(number: float) -> str:
    """Whole numbers in full with thousands marked, others with 4 significant digits.

    From 10,000 on without a fraction, from 1e15 on and below 1e-4 with an exponent. The browser's
    `shown` in prediction.js and `digits` in guesses.js say the same.
    """
    number = float(number) + 0.0                # -0 is 0
    exact, size = Decimal(repr(number)), abs(number)
    if size < 1e15 and (number.is_integer() or size >= 1e4):
        return _fixed(number, 0)
    rounded = _half_up(exact, 3 - exact.adjusted())
    if 1e-4 <= size < 1e15:
        return f"{rounded.normalize():,f}"
    power = rounded.adjusted()
    return f"{rounded.scaleb(-power).normalize():f}e{power}"


def _fixed(number: float, places: int) -> str:
    return f"{_half_up(Decimal(repr(float(number))), places):,f}"


def _half_up(exact: Decimal, places: int) -> Decimal:
    """Rounded as browsers do it: of the digits that are written, and a half away from zero."""
    return exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=400))


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}".strip()


@cache
def _script() -> str:
    return files(__package__).joinpath("prediction.js").read_text(encoding="utf-8")
