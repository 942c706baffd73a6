"""The runs behind the stored results: `python -m lightvit_lab.experiments.studies [name ...]`.

`make reference` runs them all. A study is in `STUDIES` of any module of this package: scanning
finds it.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import time
from itertools import chain
from types import ModuleType

from .. import experiments
from ..errors import LabError, require_choice
from ..runtime import device
from . import results
from .kit import Study


def find(package: ModuleType = experiments) -> dict[str, Study]:
    """Every study of the modules of `package` and below, by name; those for a GPU come first.

    Raises LabError where two have one name.
    """
    studies: dict[str, Study] = {}
    for about in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if about.name == f"{experiments.__name__}.studies":
            continue
        for study in getattr(importlib.import_module(about.name), "STUDIES", ()):
            if study.name in studies:
                raise LabError(f"studies: two studies are called {study.name!r}, the second in "
                               f"{about.name}; give each the name of its own stored result")
            studies[study.name] = study
    return dict(sorted(studies.items(), key=lambda item: (not item[1].needs_gpu, item[0])))


STUDIES = find()


def runnable() -> list[str]:
    """Names of all studies, without those for a GPU where there is none."""
    left_out = [name for name, study in STUDIES.items()
                if study.needs_gpu and device().type == "cpu"]
    for name in left_out:
        print(f"{name} is left out: there is no GPU here")
    return [name for name in STUDIES if name not in left_out]


def main(arguments: list[str] | None = None) -> None:
    """Run the named studies, or all that this machine can run, and store what they return."""
    parser = argparse.ArgumentParser(description="Run the studies whose results are stored.")
    parser.add_argument("names", nargs="*", help=f"which (default: all): {', '.join(STUDIES)}")
    for name in parser.parse_args(arguments).names or runnable():
        require_choice("studies", "name", name, STUDIES)
        study, start = STUDIES[name], time.perf_counter()
        result, seconds = study(), time.perf_counter() - start
        if study.key:       # of runs that were cached, what they took
            seconds = sum(run["seconds"] for run in chain(*study.runs.values()))
        command = f"python -m lightvit_lab.experiments.studies {name}"
        print(results.save(name, result, study.seeds, command, seconds))


if __name__ == "__main__":
    main()
