"""Grades for a class: each answer judged here on hidden cases, one row an exercise.

The notebooks themselves run behind walls, in processes of their own.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lightvit_lab.errors import LabError, require_choice, require_range
from lightvit_lab.exercises import Exercise, OpenExercise, all_exercises, open_exercises
from .hidden import examine_hidden, fresh_seed, hidden_seeds
from .session import Ending, Limits, RemoteAnswer, run
from .submissions import Submission, find_submissions

STATUSES = ("passed", "wrong", "error", "timeout", "not started", "missing")   # the best first
BY_HAND = "by hand"      # of an open question
ANSWERS = 20   # of one exercise in one notebook; further ones are not tried
A_DAY = 86400.0   # in seconds


@dataclass(frozen=True)
class Row:
    """One line of the table; its fields are the columns.

    `exercise` is "total" in a student's last line; `status` is BY_HAND for an open question.
    """

    student: str
    exercise: str
    status: str
    points: int
    out_of: int
    mistake: str = ""
    message: str = ""
    file: str = ""


def grade(folder: Path, csv_file: Path, limits: Limits = Limits(), seed: int | None = None,
          pages: Iterable[str] = (), jobs: int = 1,
          tell: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Grade every notebook below `folder`, and write `csv_file` anew after each student.

    `pages` are the stems that were set; without them, those that anybody handed in. `seed` decides
    the hidden cases, the same for all; without it, nobody knows them. `jobs` notebooks run at a
    time; `tell` gets a line after each student. Raises LabError on a folder without notebooks, an
    unknown page, a file that cannot be written, and limits that are too small.
    """
    _require(limits, jobs)
    exercises = {exercise.id: exercise for exercise in all_exercises()}
    stems = list(dict.fromkeys(map(_stem, exercises)))
    submissions = find_submissions(Path(folder), stems)
    chosen = _set_pages(submissions, list(pages), stems)
    wanted = {name: each for name, each in exercises.items() if _stem(name) in chosen}
    by_hand = [question for question in open_exercises() if _stem(question.id) in chosen]
    rows: list[Row] = []
    write_rows(rows, csv_file)
    seed = fresh_seed() if seed is None else seed
    tell(f"pages: {', '.join(sorted(chosen))}; hidden cases of seed {seed}")
    students = list(dict.fromkeys(submission.student for submission in submissions))
    graded = _all_graded(submissions, limits, seed, set(wanted), jobs)
    for student in students:
        mine = [next(graded) for submission in submissions if submission.student == student]
        rows += student_rows(student, mine, wanted, by_hand)
        write_rows(rows, csv_file)
        tell(f"{student}: {rows[-1].status}, {rows[-1].points} of {rows[-1].out_of} points")
    return rows


def _stem(exercise_id: str) -> str:
    return exercise_id.partition(".")[0]


def grade_one(submission: Submission, limits: Limits, seed: int,
              wanted: set[str]) -> dict[str, Row]:
    """Exercise id -> row, for one file; every exercise that it mentions has one."""
    exercises = {exercise.id: exercise for exercise in all_exercises() if exercise.id in wanted}
    judge = Judge(submission, exercises, seed)
    mentioned = {name: cell for name, cell in submission.checked.items() if name in exercises}
    if not submission.cells or not mentioned:
        broken = exercises if submission.problem else ()
        return {name: judge.row(name, "error", submission.problem) for name in broken}
    # nothing after the last check is needed
    cells = list(submission.cells[:max(mentioned.values()) + 1])
    ending = run(cells, limits, judge)
    for name, cell in mentioned.items():
        if name not in judge.rows:
            judge.rows[name] = judge.row(name, *_unanswered(ending, cell))
    return judge.rows


class Judge:
    """Called at each check of a notebook; stores the row of the last answer of each exercise."""

    def __init__(self, submission: Submission, exercises: dict[str, Exercise], seed: int) -> None:
        self.submission, self.exercises, self.seed = submission, exercises, seed
        self.rows: dict[str, Row] = {}
        self.counts: dict[str, int] = {}

    def __call__(self, exercise_id: str, answer: Any) -> None:
        """Try one answer on the hidden cases of its exercise."""
        self.counts[exercise_id] = self.counts.get(exercise_id, 0) + 1
        if exercise_id not in self.exercises or self.counts[exercise_id] > ANSWERS:
            return
        row = self.answer_row(self.exercises[exercise_id], answer)
        if row.status != "not started" or exercise_id not in self.rows:
            self.rows[exercise_id] = row

    def answer_row(self, exercise: Exercise, answer: Any) -> Row:
        """The row of one answer."""
        remote, tried = answer if isinstance(answer, RemoteAnswer) else None, exercise
        if remote:      # timed over there alone: stopped here, a reply would stay in the channel
            tried = dataclasses.replace(exercise, seconds=A_DAY)
        if remote and exercise.prepare:
            tried = dataclasses.replace(tried, prepare=lambda each: (
                each.prepared(exercise.prepare) if each is remote else exercise.prepare(each)))
        elif remote and hasattr(remote, "stand_in"):
            answer = remote.stand_in
        result = examine_hidden(tried, answer, hidden_seeds(self.seed, exercise.id))
        if remote and remote.late:
            text = "one call of the function took longer than it may"
            return self.row(exercise.id, "timeout", text)
        text = " ".join([result.message, *result.values.split("\n")]).strip()
        if result.status == "error" and remote and remote.where:
            text += f" ({remote.where})"
        return self.row(exercise.id, result.status, text, result.mistake or "")

    def row(self, exercise_id: str, status: str, text: str, mistake: str = "") -> Row:
        """A row of this submission."""
        points = self.exercises[exercise_id].points
        earned = points if status == "passed" else 0
        return Row(self.submission.student, exercise_id, status, earned, points, mistake, text,
                   self.submission.path.name)


def student_rows(student: str, files: list[dict[str, Row]], wanted: dict[str, Exercise],
                 by_hand: Iterable[OpenExercise] = ()) -> list[Row]:
    """The rows of one student: the best of several files, the open questions, the total.

    A teacher gives the points of the open questions; the total does not count them.
    """
    rows = []
    for name, exercise in wanted.items():
        absent = Row(student, name, "missing", 0, exercise.points,
                     message="no notebook of this student has this exercise")
        found = [each[name] for each in files if name in each]
        rows.append(min(found, key=lambda row: STATUSES.index(row.status), default=absent))
    passed = sum(row.status == "passed" for row in rows)
    points, out_of = sum(row.points for row in rows), sum(row.out_of for row in rows)
    text = ("an open question: give points by the rubric of the answer key; "
            "the total leaves them out")
    questions = [Row(student, each.id, BY_HAND, 0, each.points, message=text)
                 for each in by_hand]
    return [*rows, *questions,
            Row(student, "total", f"{passed} of {len(rows)} passed", points, out_of)]


def write_rows(rows: list[Row], csv_file: Path) -> None:
    """The table as CSV, in one step; no cell begins like a formula, whatever a student wrote."""
    csv_file, columns = Path(csv_file), [column.name for column in dataclasses.fields(Row)]
    part = csv_file.with_name(csv_file.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            lines = [list(map(_cell, dataclasses.astuple(row))) for row in rows]
            csv.writer(file).writerows([columns, *lines])
        os.replace(part, csv_file)
    except OSError as error:
        raise LabError(f"grade: csv={csv_file}: {error.strerror}; give a file in a folder that "
                       "can be written") from error


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula, in one line."""
    if not isinstance(value, str):
        return value
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _unanswered(ending: Ending, cell: int) -> tuple[str, str]:
    """Status and message of an exercise of which no answer reached the book's own `check`."""
    if cell in ending.errors:
        late = ending.errors[cell].startswith("OutOfTime")
        return "timeout" if late else "error", f"its cell raised {ending.errors[cell]}"
    if ending.how == "timeout":
        return "timeout", f"{ending.text}, in code cell {ending.cell + 1}"
    if ending.how == "ended":
        return "error", f"{ending.text}, in code cell {ending.cell + 1}"
    return "missing", "its cell ran, but the book's own check() was not called there"


def _all_graded(submissions: list[Submission], limits: Limits, seed: int, wanted: set[str],
                jobs: int) -> Iterator[dict[str, Row]]:
    """The rows of each submission in turn; `jobs` at a time."""
    if jobs == 1:
        yield from (grade_one(submission, limits, seed, wanted) for submission in submissions)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        tasks = [pool.submit(grade_one, submission, limits, seed, wanted)
                 for submission in submissions]
        yield from (task.result() for task in tasks)


def _set_pages(submissions: list[Submission], pages: list[str], stems: list[str]) -> set[str]:
    """The stems that are graded. Raises LabError on an unknown one, and where there is none."""
    for page in pages:
        require_choice("grade", "pages", page, stems)
    found = {submission.path.stem for submission in submissions if submission.problem}
    for submission in submissions:
        found.update(map(_stem, submission.checked))
    chosen = set(pages) or found & set(stems)
    if not chosen:
        raise LabError("grade: no notebook hands an answer of the book to check(); name the page "
                       f"that was set, --pages {stems[0]}")
    return chosen


def _require(limits: Limits, jobs: int) -> None:
    """Refuse what cannot work before anything is run."""
    if os.name != "posix":
        raise LabError("grade: notebooks are graded on Linux and macOS; on Windows, call it inside "
                       "WSL")
    require_range("grade", "seconds", limits.seconds, 10)
    require_range("grade", "memory_mib", limits.memory_mib, 64)
    require_range("grade", "jobs", jobs, 1)
