"""Material for a class, from the same pages and declarations as the book: `make classroom`.

    _build/classroom/README.md                  what each file is for, and how to grade
    _build/classroom/student/<stem>.ipynb       stubs
    _build/classroom/instructor/<stem>.ipynb    solutions
    _build/classroom/lecture/<stem>.html        slides: question, drawing, predictions, figures
    _build/classroom/predictions.md             all predictions with their answers
    _build/classroom/answer_key.md              prompt, solution, points, known mistakes; rubrics
    _build/classroom/points.csv                 one row an exercise
    _build/classroom/nbgrader/                  with --nbgrader: a course for nbgrader

Figures and computed answers are those of the built book; without it, the slides have the rest.
Raises LabError where a page poses an exercise or open question that is not declared, or where one
is declared that no page poses.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path

import exercise_bundle
import lecture
import nbgrader_course
import notebooks
from lessons import in_reading_order

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import Exercise, OpenExercise, all_exercises, open_exercises
from lightvit_lab.exercises.answers import known_mistakes

HTML = notebooks.ROOT / "_build" / "html"
README = Path(__file__).with_name("classroom_readme.md")
NBGRADER = "| `nbgrader/` | teachers | a course for nbgrader, in place of the grader below |\n"
BUILT = {True: "Figures and answers of the slides are those of the book that was built here.",
         False: "The book was not built here, so figures and computed answers are missing from "
                "slides: run `make book`, then `make classroom` again."}
COLUMNS = ("page", "exercise", "title", "points", "minutes", "known_mistakes")


def section(exercise: Exercise | OpenExercise) -> str:
    """An exercise of the answer key, in Markdown."""
    points = f"{exercise.points} point{'s' if exercise.points > 1 else ''}"
    head = f"### {exercise.title}\n\n`{exercise.id}`, {points}, {exercise.minutes} minutes"
    if isinstance(exercise, OpenExercise):
        rubric = "\n".join(f"- {worth}: {text}" for worth, text in exercise.rubric)
        return f"{head}, by hand\n\n{exercise.prompt}\n\nPoints, for an answer that\n\n{rubric}"
    mistakes = "\n".join(f"- **{each.name}**: {each.hint} *Then:* {each.stronger}"
                         for each in exercise.mistakes)
    return (f"{head}\n\n{exercise.prompt}\n\n```python\n{exercise.code}\n```\n\n"
            "Known mistakes, the hint that each draws, and the stronger one at the next try:\n\n"
            f"{mistakes}")


def answer_key(found: dict[str, list[Exercise]], ref: str) -> str:
    """The whole key, page by page; the open questions stand last on each."""
    parts = [f"# Answer key\n\nLightViT Lab, commit `{ref[:12]}`. "
             "For teachers: not to be handed out."]
    for stem, page in found.items():
        by_hand = [question for question in open_exercises() if question.id.startswith(f"{stem}.")]
        parts += [f"## {stem}: {worth(page)} points", *map(section, page), *map(section, by_hand)]
    return "\n\n".join(parts) + "\n"


def worth(exercises: list[Exercise]) -> int:
    """The points of all together."""
    return sum(exercise.points for exercise in exercises)


def rows(found: dict[str, list[Exercise]]) -> list[tuple]:
    """The rows of points.csv below its header."""
    return [(stem, each.id, each.title, each.points, each.minutes, len(known_mistakes(each)))
            for stem, page in found.items() for each in page]


def page_exercises(page: Path,
                   declared: dict[str, Exercise | OpenExercise]) -> list[Exercise | OpenExercise]:
    """The exercises and open questions of a page, in its order.

    Raises LabError on one that nobody declares.
    """
    posed, _ = exercise_bundle.bundle(page)
    for name in posed:
        if name not in declared:
            raise LabError(f"{page.stem}: the page poses {name!r}; declare it in "
                           "lightvit_lab/exercises")
    return [declared[name] for name in posed]


def write(out: Path, ref: str, with_nbgrader: bool = False, root: Path = notebooks.ROOT,
          html: Path = HTML) -> dict[str, list[Exercise]]:
    """Write the folder anew; returns the exercises of each page.

    `html` is the built book, which the slides take figures and answers from, if it is there.
    """
    found, placed = {}, set()
    declared = {each.id: each for each in (*all_exercises(), *open_exercises())}
    points = {name: each.points for name, each in declared.items()}
    for name in ("student", "instructor", "lecture", "nbgrader"):
        shutil.rmtree(out / name, ignore_errors=True)
    for page in in_reading_order(root):
        solved = notebooks.derive(page, ref, solutions=True)
        posed = page_exercises(page, declared)
        placed.update(each.id for each in posed)
        found[page.stem] = [each for each in posed if isinstance(each, Exercise)]
        save(out / "student" / f"{page.stem}.ipynb", notebooks.text_of(notebooks.derive(page, ref)))
        save(out / "instructor" / f"{page.stem}.ipynb", notebooks.text_of(solved))
        if with_nbgrader:
            course = notebooks.text_of(nbgrader_course.source_notebook(solved, points))
            save(out / "nbgrader" / "source" / page.stem / f"{page.stem}.ipynb", course)
    if with_nbgrader:
        save(out / "nbgrader" / "nbgrader_config.py", nbgrader_course.CONFIG)
    if missing := [name for name in declared if name not in placed]:
        raise LabError(f"declared, but on no page: {', '.join(missing)}")
    save(out / "answer_key.md", answer_key(found, ref))
    talks = write_talks(out, ref, root, html)
    answered = all(question.answer for talk in talks for question in talk.questions)
    save(out / "README.md", README.read_text(encoding="utf-8").format(
        ref=ref[:12], nbgrader=NBGRADER * with_nbgrader, built=BUILT[answered]))
    with (out / "points.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows(found)])
    return found


def write_talks(out: Path, ref: str, root: Path, html: Path) -> list[lecture.Talk]:
    """Write the slides of each page and the sheet of predictions; returns what they hold."""
    talks = [lecture.talk(page, html, root) for page in in_reading_order(root)]
    for one in talks:
        save(out / "lecture" / f"{one.stem}.html", lecture.slides(one, ref))
    save(out / "predictions.md", lecture.predictions(talks, ref))
    return talks


def save(path: Path, text: str) -> None:
    """Write a file, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write the files for a class: notebooks for "
                                     "students and teachers, slides, an answer key, the points.")
    parser.add_argument("--out", type=Path, default=notebooks.ROOT / "_build" / "classroom",
                        help="the folder to write (default: _build/classroom)")
    parser.add_argument("--nbgrader", action="store_true", help="write a course for nbgrader, too")
    options = parser.parse_args(arguments)
    try:
        found = write(options.out, notebooks.pinned_commit(), options.nbgrader)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    for stem, page in found.items():
        print(f"{stem}: {len(page)} exercises, {worth(page)} points")
    print(f"written to {options.out}; README.md there says what each file is for, and only "
          "student/ is for students")
    return 0


if __name__ == "__main__":
    sys.exit(main())
