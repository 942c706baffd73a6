"""The table `{exercise-points}` of the page for teachers: what the exercises are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab_status import TableDirective
from lessons import in_reading_order
from sphinx.application import Sphinx

from lightvit_lab.exercises import Exercise, all_exercises
from lightvit_lab.exercises.answers import known_mistakes


class ExercisePoints(TableDirective):
    """Points, minutes and known mistakes, page by page in reading order, with a total."""

    header = ("Page", "Exercises", "Points", "Minutes", "Known mistakes")

    def rows(self) -> Iterable[Sequence[str]]:
        """One page a row."""
        return point_rows(Path(self.env.srcdir))


def point_rows(root: Path) -> list[tuple[str, ...]]:
    """The rows, in Markdown; the first cell links to the page."""
    exercises, rows = list(all_exercises()), []
    for page in in_reading_order(root):
        mine = [exercise for exercise in exercises if exercise.id.startswith(f"{page.stem}.")]
        link = f"{{doc}}`/{page.relative_to(root).with_suffix('').as_posix()}`"
        rows += [(link, *_sums(mine))] if mine else []
    return [*rows, ("**all**", *_sums(exercises))]


def _sums(exercises: list[Exercise]) -> tuple[str, ...]:
    """How many exercises, points, minutes and known mistakes."""
    worth = [(1, each.points, each.minutes, len(known_mistakes(each))) for each in exercises]
    return tuple(map(str, map(sum, zip(*worth))))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive; called by `lightvit_book`."""
    app.add_directive("exercise-points", ExercisePoints)
    return {}
