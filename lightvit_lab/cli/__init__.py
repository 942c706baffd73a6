"""The command `lightvit-lab`: `doctor`, `results`, `open`, `exercises` and `grade`.

`results` and `open` need no torch; `grade` needs the grader, which teachers install in addition.
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
from . import doctor, exercises, opening


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0, or 1 if something of the core is missing, or 2 on bad input.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["grade"]:
            return _grade(arguments[1:])          # whose options the grader knows
        chosen = _parser().parse_args(arguments)
        if chosen.command == "results":
            return _results(chosen.name)
        if chosen.command == "open":
            return opening.main(chosen.stem)
        if chosen.command == "exercises":
            return exercises.main(chosen.pages)
        return doctor.main()
    except LabError as error:
        print(f"lightvit-lab: {error}", file=sys.stderr)
        return 2


_COMMANDS = {
    "doctor": "check what is installed and what this machine has, and say how to repair the rest",
    "results": "list the stored runs and what each is about, or print one of them as JSON",
    "open": "open the notebook of a page in JupyterLab",
    "exercises": "list the exercises: their page, points, minutes, and known wrong answers",
    "grade": "for teachers: run and grade the notebooks that a class has handed in"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightvit-lab", description="Commands for readers and teachers of LightViT Lab.",
        epilog="lightvit-lab COMMAND --help says more about one command.")
    parser.add_argument("--version", action="version", version=f"lightvit-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {name: commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
            for name, text in _COMMANDS.items()}
    made["results"].add_argument("name", nargs="?",
                                 help="print the stored run of this name (default: list all)")
    made["open"].add_argument("stem", metavar="PAGE",
                              help="short name of the page, for example token_merging")
    made["exercises"].add_argument("pages", metavar="PAGE", nargs="*",
                                   help="only those of this page, for example token_merging")
    return parser


def _grade(arguments: list[str]) -> int:
    """Grade a class. Raises LabError on bad input, and where the grader is not installed."""
    if find_spec("lightvit_grader") is None:
        raise LabError("grade: the grader is not installed (only teachers need it). Install it "
                       f'with: pip install "{_grader_source()}"')
    from lightvit_grader import command

    return command.main(arguments)


def _grader_source() -> str:
    """Where pip finds the grader that goes with this library: this checkout, or the same commit."""
    folder = Path(__file__).resolve().parents[2] / "book" / "grader"
    if (folder / "pyproject.toml").is_file():
        return str(folder)
    library = metadata.distribution(doctor.PACKAGE)
    origin = json.loads(library.read_text("direct_url.json") or "{}")     # pip's own note, PEP 610
    commit = origin.get("vcs_info", {}).get("commit_id")
    revision = f"@{commit}" if commit else ""
    return f"git+{opening.repository()}{revision}#subdirectory=book/grader"


def _results(name: str | None) -> int:
    """List all stored runs with subject and origin, or print one; LabError on unknown ones."""
    from ..experiments import results

    if name is not None:
        print(json.dumps(results.load(name).data, indent=1))
        return 0
    for stored in results.names():
        told = stored, results.about(stored), results.load(stored).origin
        print(*filter(None, told), sep="\n    ")
    if not results.names():
        print(f"There are no stored runs in {results.folder()}. `make reference` makes them.")
    return 0
