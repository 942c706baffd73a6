"""`lightvit-lab exercises`: every exercise of the book with its page, points, minutes and known
wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

LEAST_MISTAKES = 2   # an exercise that knows fewer cannot say which mistake an answer looks like
_HEADER = ("exercise", "page", "points", "minutes", "known wrong")
_Line = tuple[str, str, int, int, int]


def main() -> int:
    """Print all with the sums of each page; returns 1 if there are none or one knows too few wrong
    answers.
    """
    lines = _lines()
    table: list[Sequence[object]] = [_HEADER]
    for page, of_page in groupby(lines, key=lambda line: line[1]):
        table += [*(group := list(of_page)), _sum(page, group), ("",) * len(_HEADER)]
    table.append(_sum("all pages", lines))
    _print(table)
    poor = [line for line in lines if line[-1] < LEAST_MISTAKES]
    for name, page, *_, mistakes in poor:
        answers = f"{mistakes} wrong answer{'s' if mistakes != 1 else ''}"
        print(f"\n{name} knows {answers}; declare at least {LEAST_MISTAKES} in lightvit_lab/exercises/answers/{page}.py")
    return int(bool(poor) or not lines)


def _lines() -> list[_Line]:
    """One line per exercise, in the order of the files."""
    from ..exercises import all_exercises, page_of

    return [(exercise.id, page_of(exercise), exercise.points, exercise.minutes, len(exercise.mistakes))
            for exercise in all_exercises()]


def _sum(name: str, lines: Sequence[_Line]) -> tuple[object, ...]:
    return (f"= {len(lines)} exercises", name, *(sum(line[column] for line in lines) for column in (2, 3, 4)))


def _print(table: Sequence[Sequence[object]]) -> None:
    """Aligned columns: words to the left, numbers to the right."""
    widths = [max(len(str(line[column])) for line in table) for column in range(len(_HEADER))]
    for line in table:
        cells = (str(cell).ljust(width) if column < 2 else str(cell).rjust(width)
                 for column, (cell, width) in enumerate(zip(line, widths)))
        print("  ".join(cells).rstrip())
