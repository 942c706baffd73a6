"""The options of `lightvit-lab grade`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import grading, lockdown, session


def main(arguments: list[str]) -> int:
    """Grade a class; says first what this machine does not protect against.

    Raises LabError on bad input.
    """
    chosen = _parser().parse_args(arguments)
    for gap in lockdown.walls():
        print(f"Not protected on this machine: {gap}", file=sys.stderr)
    limits = session.Limits(chosen.seconds, chosen.memory_mib)
    grading.grade(chosen.submissions, chosen.csv, limits, chosen.seed, chosen.pages,
                  chosen.jobs, print)
    print(f"{chosen.csv} is written")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightvit-lab grade",
                                     description="Run and grade the notebooks of a class.")
    parser.add_argument("submissions", type=Path,
                        help="folder: <student>/*.ipynb or <student>.ipynb")
    parser.add_argument("--csv", type=Path, required=True,
                        help="the table to write: one row for a student and exercise")
    parser.add_argument("--seconds", type=float, default=300, help="for one notebook (300)")
    parser.add_argument("--memory-mib", type=int, default=2048,
                        help="for one notebook, beyond its libraries (2048)")
    parser.add_argument("--seed", type=int,
                        help="of the hidden cases, to repeat a grading (default: one nobody knows)")
    parser.add_argument("--pages", nargs="+", default=[],
                        help="stems of the pages set (default: those handed in)")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that run at a time (1)")
    return parser
