"""`lightvit-lab exercises`: every exercise with its page, points, minutes, known wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from ..errors import require_choice

LEAST_MISTAKES = 2   # an exercise that knows fewer cannot say which mistake an answer looks like
_HEADER = ("exercise", "page", "points", "minutes", "known wrong answers")


def main(pages: Sequence[str] = ()) -> int:
    """Print the exercises of some pages, named by their stems, or all; with the sums of each page.

    Returns 1 if there are none, or one knows too few wrong answers. Raises LabError on unknown
    pages.
    """
    from ..exercises import all_exercises, page_of
    from ..exercises.answers import known_mistakes

    every = [(one, page_of(one)) for one in all_exercises()]
    for page in pages:
        require_choice("exercises", "page", page, {path.split("/")[1] for _, path in every})
    rows = [(one.id, path, one.points, one.minutes, len(known_mistakes(one)))
            for one, path in every if not pages or path.split("/")[1] in pages]
    table = [_HEADER]
    for page, of_page in groupby(rows, key=itemgetter(1)):
        table += of_page
        table += [_sum(page, [row for row in rows if row[1] == page]), ("",) * len(_HEADER)]
    table.append(_sum("these pages" if pages else "all pages", rows))
    widths = [max(map(len, map(str, column))) for column in zip(*table)]
    line = "{:<%d}  {:<%d}  {:>%d}  {:>%d}  {:>%d}" % tuple(widths)
    for row in table:
        print(line.format(*row).rstrip())
    poor = [row for row in rows if row[-1] < LEAST_MISTAKES]
    for name, page, *_, mistakes in poor:
        answers = f"{mistakes} wrong answer{'s' if mistakes != 1 else ''}"
        print(f"\n{name} knows {answers}; declare at least {LEAST_MISTAKES} in "
              f"lightvit_lab/exercises/answers/{page}.py")
    return int(bool(poor) or not rows)


def _sum(name: str, rows: Sequence[tuple]) -> tuple:
    points, minutes, mistakes = map(sum, zip(*(row[2:] for row in rows))) if rows else (0, 0, 0)
    return f"= {len(rows)} exercises", name, points, minutes, mistakes
