"""The command `lightvit-lab`: `doctor` looks the machine over, `results` lists stored runs, `exercises` the exercises.

The first two need no torch.
"""

from __future__ import annotations

import argparse
import json
import sys

from .. import __version__
from ..errors import LabError
from . import doctor, exercises


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 if something of the core is missing, or 2 on bad input."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "exercises":
            return exercises.main()
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
    return parser


def _results(name: str | None) -> int:
    """List all stored runs with their origin, or print one. Raises LabError on unknown and on broken ones."""
    from ..experiments import results

    if name is not None:
        print(json.dumps(results.load(name).data, indent=1))
        return 0
    for stored in results.names():
        print(f"{stored}\n    {results.load(stored).origin}")
    if not results.names():
        print(f"no stored results in {results.folder()}; `make reference` makes them")
    return 0
