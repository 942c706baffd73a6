"""The command `lightvit-lab`: `doctor`, `results`, `open`, `exercises` and `grade`.

The first three need no torch; the last needs the grader, which teachers install in addition.
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
        return {"doctor": doctor, "exercises": exercises}[chosen.command].main()
    except LabError as error:
        print(f"lightvit-lab: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightvit-lab",
                                     description="Helpers of the LightViT Lab book.")
    parser.add_argument("--version", action="version", version=f"lightvit-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("doctor", help="what is installed, what this machine has, what mends it")
    results = commands.add_parser("results", help="list the stored runs, or print one as JSON")
    results.add_argument("name", nargs="?", help="the stored run to print")
    notebook = commands.add_parser("open", help="open the notebook of a page in JupyterLab")
    notebook.add_argument("stem", help="of the page, as in open token_merging")
    commands.add_parser("exercises", help="list all exercises with points and known wrong answers")
    commands.add_parser("grade", help="run and grade the notebooks that a class has handed in")
    return parser


def _grade(arguments: list[str]) -> int:
    """Grade a class. Raises LabError on bad input, and where the grader is not installed."""
    if find_spec("lightvit_grader") is None:
        raise LabError("grade: the grader, which only teachers need, is not installed; "
                       f'install it with: pip install "{_grader_source()}"')
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
    """List all stored runs with their origin, or print one; LabError on unknown and broken ones."""
    from ..experiments import results

    if name is not None:
        print(json.dumps(results.load(name).data, indent=1))
        return 0
    for stored in results.names():
        print(f"{stored}\n    {results.load(stored).origin}")
    if not results.names():
        print(f"no stored results in {results.folder()}; `make reference` makes them")
    return 0
