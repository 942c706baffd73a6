"""What a teacher hands out and keeps, from the same pages and declarations as the book: `make
classroom`.

    _build/classroom/student/<stem>.ipynb       stubs
    _build/classroom/instructor/<stem>.ipynb    solutions
    _build/classroom/answer_key.md              prompt, solution, points, minutes and known mistakes of each exercise
    _build/classroom/points.csv                 one row an exercise
    _build/classroom/nbgrader/                  with --nbgrader: a course whose source notebooks nbgrader takes

Raises LabError where a page checks an exercise that is not declared, or declares one that no page
checks.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbgrader_course
import notebooks
from lessons import in_reading_order
from nbformat import NotebookNode
from stubs import ANSWER, CHECK_CALL

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import Exercise, all_exercises

HEADING = re.compile(r"^### Exercise(?:: (?P<title>.*))?$", re.MULTILINE)
COLUMNS = ("page", "exercise", "title", "points", "minutes", "known_mistakes")


@dataclass(frozen=True)
class Entry:
    """One exercise as the page poses it (`title`, `prompt`), solves it, and the library declares
    it.
    """

    page: str
    title: str
    prompt: str
    solution: str
    exercise: Exercise


def entries(stem: str, notebook: NotebookNode) -> Iterator[Entry]:
    """The exercises of a notebook with solutions, in order; the prompt stands in the text cell
    above each.
    """
    declared, text = {exercise.id: exercise for exercise in all_exercises()}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = cell.source
        elif ANSWER.search(cell.source):
            names = CHECK_CALL.findall(cell.source)
            if len(names) != 1 or names[0] not in declared:
                raise LabError(f"{stem}: a solution cell checks {names}; give one that lightvit_lab/exercises has")
            name = names[0]
            heading = list(HEADING.finditer(text))[-1]
            title, prompt = heading["title"] or declared[name].prompt, text[heading.end():].strip()
            yield Entry(stem, title, prompt, solution_of(cell.source), declared[name])


def solution_of(source: str) -> str:
    """The code of a solution cell, without marker lines and without the check."""
    plain = ANSWER.sub(lambda block: block["answer"].rstrip("\n"), source)
    return "\n".join(line for line in plain.splitlines() if not CHECK_CALL.match(line)).strip()


def section(entry: Entry) -> str:
    """An exercise of the answer key, in Markdown."""
    exercise = entry.exercise
    points = f"{exercise.points} point{'s' if exercise.points > 1 else ''}, {exercise.minutes} minutes"
    mistakes = "\n".join(f"- **{each.name}**: {each.hint} *Then:* {each.stronger}" for each in exercise.mistakes)
    return (f"### {entry.title}\n\n`{exercise.id}`, {points}\n\n{entry.prompt}\n\n```python\n{entry.solution}\n```\n\n"
            f"Known mistakes, the hint that each draws, and the stronger one at the next try:\n\n{mistakes}")


def answer_key(found: dict[str, list[Entry]], ref: str) -> str:
    """The whole key, page by page."""
    parts = [f"# Answer key\n\nLightViT Lab, commit `{ref[:12]}`. For teachers: not to be handed out."]
    for stem, page in found.items():
        parts += [f"## {stem}: {sum(entry.exercise.points for entry in page)} points", *map(section, page)]
    return "\n\n".join(parts) + "\n"


def rows(found: dict[str, list[Entry]]) -> list[tuple]:
    """The rows of points.csv below its header."""
    return [(entry.page, entry.exercise.id, entry.title, entry.exercise.points, entry.exercise.minutes,
             len(entry.exercise.mistakes)) for page in found.values() for entry in page]


def write(out: Path, ref: str, with_nbgrader: bool = False,
          root: Path = notebooks.ROOT) -> dict[str, list[Entry]]:
    """Make the folder anew; the exercises of each page that has any."""
    found = {}
    for name in ("student", "instructor", "nbgrader"):
        shutil.rmtree(out / name, ignore_errors=True)
    for page in in_reading_order(root):
        solved = notebooks.derive(page, ref, solutions=True)
        found[page.stem] = list(entries(page.stem, solved))
        save(out / "student" / f"{page.stem}.ipynb", notebooks.text_of(notebooks.derive(page, ref)))
        save(out / "instructor" / f"{page.stem}.ipynb", notebooks.text_of(solved))
        if with_nbgrader:
            points = {entry.exercise.id: entry.exercise.points for entry in found[page.stem]}
            course = notebooks.text_of(nbgrader_course.source_notebook(solved, points))
            save(out / "nbgrader" / "source" / page.stem / f"{page.stem}.ipynb", course)
    if with_nbgrader:
        save(out / "nbgrader" / "nbgrader_config.py", nbgrader_course.CONFIG)
    posed = {entry.exercise.id for page in found.values() for entry in page}
    if unposed := [exercise.id for exercise in all_exercises() if exercise.id not in posed]:
        raise LabError(f"declared, but on no page: {', '.join(unposed)}")
    save(out / "answer_key.md", answer_key(found, ref))
    with (out / "points.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows(found)])
    return found


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(description="Notebooks, answer key and points for a class.")
    parser.add_argument("--out", type=Path, default=notebooks.ROOT / "_build" / "classroom", help="folder to write")
    parser.add_argument("--nbgrader", action="store_true", help="also a course for nbgrader")
    options = parser.parse_args(arguments)
    try:
        found = write(options.out, notebooks.pinned_commit(), options.nbgrader)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    for stem, page in found.items():
        print(f"{stem}: {len(page)} exercises, {sum(entry.exercise.points for entry in page)} points")
    print(f"written to {options.out}; answer_key.md and instructor/ are not for students")
    return 0


if __name__ == "__main__":
    sys.exit(main())
