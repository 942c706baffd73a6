"""The table of a chapter's exercises, or of all: what passed, points, attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..errors import require_choice
from . import engine, record
from .boxes import SIGNS, box_style, inline
from .declaration import Exercise

_HEADER = ("exercise", "status", "points", "attempts")


@dataclass(frozen=True)
class Row:
    """One exercise and how it went; `points` of `possible` are earned by passing."""

    exercise_id: str
    title: str
    status: str
    points: int
    possible: int
    attempts: int

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What the table shows of it."""
        points = f"{self.points} of {self.possible}"
        return self.exercise_id, self.status, points, str(self.attempts)


@dataclass(frozen=True, repr=False)
class Progress:
    """A table of exercises; text in terminals, a box in notebooks.

    `storage_note` says in which file the progress is stored, or why it is not.
    """

    rows: tuple[Row, ...]
    storage_note: str

    @property
    def points(self) -> int:
        """Points earned."""
        return sum(row.points for row in self.rows)

    @property
    def possible(self) -> int:
        """Points there are."""
        return sum(row.possible for row in self.rows)

    @property
    def passed(self) -> int:
        """Exercises passed."""
        return sum(row.status == "passed" for row in self.rows)

    @property
    def total(self) -> tuple[str, str, str, str]:
        """The last line of the table."""
        attempts = sum(row.attempts for row in self.rows)
        return ("all", f"{self.passed} of {len(self.rows)} passed",
                f"{self.points} of {self.possible}", str(attempts))

    def __repr__(self) -> str:
        lines = [_HEADER, *(row.cells for row in self.rows), self.total]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join([_aligned(line, widths) for line in lines] + [self.storage_note])

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="{_cell(column)}">{name}</th>'
                       for column, name in enumerate(_HEADER))
        body = "".join(_html_row(_html_id(row), row.cells, SIGNS[row.status]) for row in self.rows)
        return (f'<div class="lab-progress" style="{box_style("progress")};overflow-x:auto" '
                'tabindex="0" role="region" aria-label="Your progress">'
                '<table style="border-collapse:collapse;color:inherit;background:none">'
                f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
                f"<tfoot>{_html_row('all', self.total)}</tfoot></table>"
                f'<div style="font-size:.9em">{inline(self.storage_note)}</div></div>')


def progress(chapter: str | None = None) -> Progress:
    """How the exercises of a chapter went, `progress("vision_transformer")`, or those of all.

    Passed stays passed. It is stored in `progress.json` in the cache folder (LIGHTVIT_CACHE);
    LIGHTVIT_PROGRESS=0 switches that off. Raises LabError on an unknown chapter.
    """
    exercises = list(engine.all_exercises())
    if chapter is not None:
        chapter = str(chapter).rstrip("/").rpartition("/")[2]
        require_choice("progress", "chapter", chapter,
                       dict.fromkeys(_stem(exercise) for exercise in exercises))
        exercises = [exercise for exercise in exercises if _stem(exercise) == chapter]
    known = record.entries()
    rows = [_row(exercise, known.get(exercise.id, record.Entry())) for exercise in exercises]
    return Progress(tuple(rows), _storage_note())


def forget_progress() -> None:
    """Reset your progress: forget how every exercise went, in this session and in the file."""
    record.forget()


def _row(exercise: Exercise, entry: record.Entry) -> Row:
    points = exercise.points if entry.status == "passed" else 0
    return Row(exercise.id, exercise.title, entry.status, points, exercise.points, entry.attempts)


def _stem(exercise: Exercise) -> str:
    return exercise.id.partition(".")[0]


def _storage_note() -> str:
    """Where the progress is stored; or that it lasts for this session only, and why."""
    why = record.reason_not_stored()
    if why:
        return f"This session only: {why}."
    if record.write_failed:
        return (f"This session only: {record.path()} cannot be written. "
                "LIGHTVIT_CACHE names another folder.")
    return f"Kept in {record.path()}; LIGHTVIT_PROGRESS=0 switches that off."


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()


def _html_id(row: Row) -> str:
    return f'{escape(row.exercise_id)}<div style="font-size:.9em">{inline(row.title)}</div>'


def _html_row(first: str, cells: Sequence[str], sign: str = "") -> str:
    """A row of the table; `first` is HTML; `sign` stands before the status, unread by voices."""
    mark = f'<span aria-hidden="true">{sign}</span> ' if sign else ""
    rest = "".join(f'<td style="{_cell(column)}">{mark if column == 1 else ""}{escape(cell)}</td>'
                   for column, cell in enumerate(cells) if column)
    return ('<tr style="background:none">'
            f'<th scope="row" style="{_cell(0)};font-weight:inherit">{first}</th>{rest}</tr>')


def _cell(column: int) -> str:
    # on a phone the box scrolls sideways
    width = "white-space:nowrap" if column else "min-width:11em"
    align = "left" if column < 2 else "right"
    return f"padding:.2em .8em .2em 0;text-align:{align};{width};vertical-align:top"
