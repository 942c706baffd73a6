"""Colab's lists of packages: those in tests/book/colab, and how newly published ones differ.

`python book/_tools/colab_lists.py --changed` reads the published lists and exits 1 if they differ,
naming each package that does; it writes nothing. `make test-colab` sets up its environment with
what `--constraints` and `--needed` print.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import install_cell

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "book" / "colab"
# a runtime without accelerator, one with a GPU
LISTS = ("pip-freeze.txt", "pip-freeze.gpu.txt")
PUBLISHED = "https://raw.githubusercontent.com/googlecolab/backend-info/main"


def versions(text: str) -> dict[str, str]:
    """Name -> version of what `pip freeze` printed; an address without a version counts as 0."""
    found = {}
    for line in text.splitlines():
        entry = re.match(r"([\w.-]+)(?:==| @ )(\S+)", line)
        if entry:
            name, where = re.sub("[-_.]+", "-", entry[1]).lower(), unquote(entry[2])
            wheel = re.search(r"/[^/]+?-(\d[^-/]*)(?:-[^/]*\.whl|\.tar\.gz)", where)
            named = wheel[1] if wheel else "0"
            found[name] = where if "==" in line else named
    return found


def committed(name: str) -> dict[str, str]:
    """Name -> version of a list in tests/book/colab."""
    return versions((FOLDER / name).read_text(encoding="utf-8"))


def constraints() -> str:
    """The versions of a runtime without accelerator, for pip's `-c`; no local parts (`+cpu`).

    NVIDIA's libraries are left out: each build of torch brings those that it was made for.
    """
    return "".join(f"{name}=={version.partition('+')[0]}\n"
                   for name, version in committed(LISTS[0]).items()
                   if version != "0" and name != "google-colab" and not name.startswith("nvidia-"))


def needed_packages() -> set[str]:
    """The packages that the first cell of a notebook looks for."""
    words = itertools.chain(*(call[1:] for call in install_cell.commands({}, "", "")[:-1]))
    return {"torch", "torchvision", "numpy"} | {word for word in words if word[0] != "-"}


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """A line for each package that differs, those that the notebooks need first."""
    needed = needed_packages()
    names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    names.sort(key=lambda name: (name not in needed, name))
    return [f"{'needed ' if name in needed else ''}{name}: "
            f"{old.get(name, 'absent')} -> {new.get(name, 'absent')}" for name in names]


def report(source: str) -> int:
    """Print how the lists at the address `source` differ from those committed; 1 if they do."""
    differ = False
    for name in LISTS:
        with urllib.request.urlopen(f"{source}/{name}", timeout=60) as answer:
            lines = changes(committed(name), versions(answer.read().decode()))
        count = f"{len(lines)} packages differ" if lines else "as committed"
        print(f"{name}: {count}", *lines, sep="\n  ")
        differ |= bool(lines)
    if differ:
        print(f"Put the new lists into {FOLDER.relative_to(ROOT).as_posix()}, commit and date in "
              "the first line of each, then run make test and make test-colab.")
    return int(differ)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(description="Work with the lists of packages that "
                                     "Colab publishes.")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--changed", action="store_true",
                      help="compare with the lists published now: name what differs, exit 1")
    task.add_argument("--constraints", action="store_true",
                      help="print the versions stored in the repository, as a file for pip -c")
    task.add_argument("--needed", action="store_true",
                      help="print those packages on the list that a notebook's first cell needs")
    parser.add_argument("--source", default=PUBLISHED,
                        help="the address of the folder with the published lists")
    options = parser.parse_args(arguments)
    if options.changed:
        return report(options.source)
    listed = needed_packages() & committed(LISTS[0]).keys()
    print(" ".join(sorted(listed)) if options.needed else constraints().rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
