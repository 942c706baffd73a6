"""Notebooks as students hand them in: in folders or single; broken, empty, renamed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lightvit_lab.errors import LabError

LARGEST_MIB = 64   # of one file, its outputs included
# first line of the cell that installs; there is no network here
SET_UP = "# @title Set up: run this cell first"
_CHECKED = re.compile(r"""\bcheck\(\s*["']([\w.]+)["']""")


@dataclass(frozen=True)
class Submission:
    """One file: whose it is, its code cells in order, or what is wrong with it."""

    student: str
    path: Path
    cells: tuple[str, ...] = ()
    problem: str = ""

    @property
    def checked(self) -> dict[str, int]:
        """Exercise id -> the last cell that hands it to `check`."""
        return {name: number for number, cell in enumerate(self.cells)
                for name in _CHECKED.findall(cell)}


def find_submissions(folder: Path, stems: list[str]) -> list[Submission]:
    """Every notebook below `folder`, by student: `<student>/*.ipynb` and `<student>.ipynb`.

    `stems` are those of the book's pages: `ana_lightvit.ipynb` is Ana's. A student's folder without
    notebooks counts, too. Raises LabError where there is no folder, or nothing in it.
    """
    if not folder.is_dir():
        raise LabError(f"grade: {folder.resolve()} is no folder; give one with a folder for each "
                       "student, or a file")
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            files = sorted(path for path in entry.rglob("*.ipynb")
                           if ".ipynb_checkpoints" not in path.parts)
            found += [read(entry.name, path) for path in files] or [Submission(entry.name, entry)]
        elif entry.suffix == ".ipynb":
            found.append(read(student_of(entry.stem, stems), entry))
    if not found:
        raise LabError(f"grade: {folder.resolve()} holds no notebook; give "
                       "submissions/<student>/*.ipynb or submissions/<student>.ipynb")
    return sorted(found, key=lambda submission: (submission.student, str(submission.path)))


def student_of(name: str, stems: list[str]) -> str:
    """The student that a file's name names: what remains of it without the page's stem."""
    for stem in sorted(stems, key=len, reverse=True):
        student = re.sub(rf"(^|[-_. ]+){stem}([-_. ]+|$)", "", name)
        if student and student != name:
            return student
    return name


def read(student: str, path: Path) -> Submission:
    """A notebook's code cells; one that cannot be read is a submission with a problem."""
    try:
        if path.stat().st_size > LARGEST_MIB * 2**20:
            return Submission(student, path, problem=f"the file is larger than {LARGEST_MIB} MiB")
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            return Submission(student, path, problem="the file is empty")
        cells = tuple(filter(None, map(_source, _cells(json.loads(text)))))
    except (OSError, UnicodeDecodeError) as error:
        text = f"the file cannot be read ({type(error).__name__})"
        return Submission(student, path, problem=text)
    except (ValueError, RecursionError) as error:
        return Submission(student, path, problem=f"the file is no notebook: {str(error)[:200]}")
    return Submission(student, path, cells, "" if cells else "the notebook has no code")


def _cells(notebook: object) -> list:
    """The list of cells, of today's format or the one before. Raises ValueError without one."""
    if isinstance(notebook, dict):
        sheets = notebook.get("worksheets")
        first = sheets[0] if isinstance(sheets, list) and sheets else {}
        older = first.get("cells") if isinstance(first, dict) else None
        cells = notebook.get("cells", older)
        if isinstance(cells, list):
            return cells
    raise ValueError("it has no list of cells")


def _source(cell: object) -> str:
    """The code of a cell; nothing where it is no code, or not to be run here."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return ""
    source = cell.get("source", cell.get("input", ""))
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    skipped = text.startswith(SET_UP) or isinstance(tags, list) and "skip-execution" in tags
    return "" if skipped or not text.strip() else text
