"""The options of `lightvit-lab grade`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Grade a class; says first what this machine does not protect against.

    Raises LabError on bad input.
    """
    chosen = _parser().parse_args(arguments)
    from . import grading, lockdown, session        # which need torch: the help shall not wait

    for gap in lockdown.walls():
        print(f"Not protected on this machine: {gap}", file=sys.stderr)
    limits = session.Limits(chosen.seconds, chosen.memory_mib)
    grading.grade(chosen.submissions, chosen.csv, limits, chosen.seed, chosen.pages,
                  chosen.jobs, print)
    print(f"{chosen.csv} is written")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightvit-lab grade",
        description="Run the notebooks of a class, grade every exercise in them, and write the "
                    "points to a table. Each notebook runs in a process of its own.")
    parser.add_argument("submissions", type=Path,
                        help="the folder of the notebooks: one folder for each student "
                             "(NAME/*.ipynb) or one file for each (NAME.ipynb)")
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE",
                        help="the table to write: a row for each student and exercise")
    parser.add_argument("--seconds", type=float, default=300, metavar="S",
                        help="how long one notebook may run (default: 300 seconds)")
    parser.add_argument("--memory-mib", type=int, default=2048, metavar="MIB",
                        help="how much memory one notebook may use, besides its libraries "
                             "(default: 2048 MiB)")
    parser.add_argument("--seed", type=int,
                        help="the number that decides the hidden test cases; every grading prints "
                             "it. Give it to repeat that grading (default: a random number)")
    parser.add_argument("--pages", nargs="+", default=[], metavar="PAGE",
                        help="the pages that were set, for example token_merging; what is not "
                             "handed in counts 0 (default: the pages found in the folder)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="how many notebooks run at the same time (default: 1)")
    return parser
