"""The command `lightvit-lab`: `doctor` looks the machine over, `results` lists stored runs,
`exercises` the exercises, and `grade` grades a class.

The first two need no torch; the last needs the grader, which teachers install beside the library.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from .. import __version__
from ..errors import LabError
from . import doctor, exercises


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 if something of the core is missing, or 2 on
    bad input.
    """
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "exercises":
            return exercises.main()
        if chosen.command == "grade":
            return _grade(chosen)
        return _results(chosen.name) if chosen.command == "results" else doctor.main()
    except LabError as error:
        print(f"lightvit-lab: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightvit-lab", description="Helpers of the LightViT Lab book.")
    parser.add_argument("--version", action="version", version=f"lightvit-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("doctor", help="what is installed, what this machine has, and how to mend what is missing")
    results = commands.add_parser("results", help="list the stored runs, or print one as JSON")
    results.add_argument("name", nargs="?", help="the stored run to print")
    commands.add_parser("exercises", help="list all exercises with page, points, minutes and known wrong answers")
    _grade_options(commands.add_parser("grade", help="run and grade the notebooks that a class has handed in"))
    return parser


def _grade_options(grade: argparse.ArgumentParser) -> None:
    grade.add_argument("submissions", type=Path, help="folder with <student>/*.ipynb or <student>.ipynb")
    grade.add_argument("--csv", type=Path, required=True, help="the table to write: one row for a student and exercise")
    grade.add_argument("--seconds", type=float, default=300, help="for one notebook (300)")
    grade.add_argument("--memory-mib", type=int, default=2048, help="for one notebook, beyond its libraries (2048)")
    grade.add_argument("--seed", type=int, help="of the hidden cases, to repeat a grading (default: one nobody knows)")
    grade.add_argument("--pages", nargs="+", default=[], help="stems of the pages set (default: those handed in)")
    grade.add_argument("--jobs", type=int, default=1, help="notebooks that run at a time (1)")


def _grade(chosen: argparse.Namespace) -> int:
    """Grade a class; says first what this machine does not protect against. Raises LabError on bad
    input.
    """
    _require_grader()
    from lightvit_grader import grading, lockdown, session

    for gap in lockdown.walls():
        print(f"Not protected on this machine: {gap}", file=sys.stderr)
    limits = session.Limits(chosen.seconds, chosen.memory_mib)
    grading.grade(chosen.submissions, chosen.csv, limits, chosen.seed, chosen.pages, chosen.jobs, print)
    print(f"{chosen.csv} is written")
    return 0


def _require_grader() -> None:
    """Raise LabError, which says how to install it, where the grader's own package is missing."""
    if find_spec("lightvit_grader") is None:
        raise LabError("grade: the grader, which only teachers need, is not installed; "
                       f'install it with: pip install "{_grader_source()}"')


def _grader_source() -> str:
    """Where pip finds the grader that goes with this library: this checkout, or the same commit."""
    folder = Path(__file__).resolve().parents[2] / "book" / "grader"
    if (folder / "pyproject.toml").is_file():
        return str(folder)
    library = metadata.distribution(doctor.PACKAGE)
    links = dict(line.split(", ", 1) for line in library.metadata.get_all("Project-URL"))
    origin = json.loads(library.read_text("direct_url.json") or "{}")     # pip's own note, PEP 610
    commit = origin.get("vcs_info", {}).get("commit_id")
    revision = f"@{commit}" if commit else ""
    return f"git+{links['Repository']}{revision}#subdirectory=book/grader"


def _results(name: str | None) -> int:
    """List all stored runs with their origin, or print one. Raises LabError on unknown and on
    broken ones.
    """
    from ..experiments import results

    if name is not None:
        print(json.dumps(results.load(name).data, indent=1))
        return 0
    for stored in results.names():
        print(f"{stored}\n    {results.load(stored).origin}")
    if not results.names():
        print(f"no stored results in {results.folder()}; `make reference` makes them")
    return 0
