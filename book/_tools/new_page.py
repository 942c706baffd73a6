"""Lay the skeleton of a new page: `make page STEM=dynamic/my_method TITLE="My method"`.

It writes page, method, exercises, their wrong answers and test (book/_tools/skeleton/), what
`make notebooks` copies of the page, and the page's line in _toc.yml. All of it builds, derives and
passes its tests as it is; its author then writes the real method in its place, and runs
`make notebooks`.
"""

from __future__ import annotations

import argparse
import json
import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import exercise_bundle
import lessons

from lightvit_lab.errors import LabError, require_choice

SKELETON = Path(__file__).with_name("skeleton")
# the other parts have a room of their own name
ROOMS = {"foundations": "models", "practice": "explain"}


def lay(root: Path, name: str, title: str = "") -> list[Path]:
    """Write the files of a new page `name`, "<part>/<stem>", below `root`; the paths written.

    A page that is planned brings its title and week; else the title comes from the stem, and the
    week is the last of its part. Raises LabError, and writes nothing, where the part is unknown,
    the name is none, or something of it exists.
    """
    part, stem = parse(name)
    title, week, question = heading(root, name, title)
    room = ROOMS.get(part, part)
    targets = {root / f"chapters/{part}/{stem}.md": "page.md",
               root / f"lightvit_lab/{room}/{stem}.py": "method.py",
               root / f"lightvit_lab/exercises/{part}/{stem}.py": "exercises.py",
               root / f"lightvit_lab/exercises/answers/{part}/{stem}.py": "answers.py",
               root / f"tests/{room}/test_{stem}.py": "test.py"}
    require_new(root, stem, list(targets))
    contents = with_line(root / "_toc.yml", name)
    values = {"STEM": stem, "PART": part, "ROOM": room, "TITLE": title, "WEEK": str(week),
              "QUESTION": json.dumps(question, ensure_ascii=False)}
    packages = [package for path in targets if (package := new_package(path, title))]
    for path, source in targets.items():
        save(path, filled(SKELETON / f"{source}.in", values))
    save(root / "_toc.yml", contents)
    copies = exercise_bundle.files(root / f"chapters/{part}/{stem}.md", root)
    for path, text in copies.items():
        save(path, text)
    return [*packages, *targets, *copies, root / "_toc.yml"]


def heading(root: Path, name: str, title: str) -> tuple[str, int, str]:
    """Title, week and question of a new page, from its plan where it has one.

    Raises LabError on a title that cannot stand in a docstring.
    """
    part, stem = name.split("/")
    plan = next((each for each in lessons.lessons(root) if each.page == name), None)
    title = title or (plan.title if plan else stem.replace("_", " ").capitalize())
    title = " ".join(title.split())
    if "\\" in title or '"""' in title:
        raise LabError(f"page: TITLE={title!r} cannot stand in a docstring; "
                       "leave out backslashes and triple quotes")
    if plan:
        return title, *next(iter(plan.weeks.items()))
    return title, last_week(root, part), f"What does it save, and what does it cost: {title}?"


def parse(name: str) -> tuple[str, str]:
    """Part and stem of a page's name. Raises LabError where it is none."""
    part, _, stem = name.partition("/")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem) or keyword.iskeyword(stem):
        raise LabError(f"page: STEM={name!r} is no name of a page; give part and stem in small "
                       "letters, for example make page STEM=dynamic/my_method")
    require_choice("page", "part", part, [each["part"] for each in lessons.parts()])
    return part, stem


def require_new(root: Path, stem: str, targets: list[Path]) -> None:
    """Raise LabError where a file is there already, or another page has the stem."""
    others = [*root.glob(f"chapters/*/{stem}.md"),
              *root.glob(f"lightvit_lab/exercises/*/{stem}.py"),
              *root.glob(f"lightvit_lab/*/{stem}/__init__.py"),
              *root.glob(f"tests/*/test_{stem}.py")]
    found = sorted({path for path in (*targets, *others) if path.exists()})
    if found:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise LabError(f"page: there is already {names}; choose another stem, since one stem "
                       "names one method")


def last_week(root: Path, part: str) -> int:
    """The last week of a class in which pages of this part are read."""
    pages = [each for each in lessons.lessons(root) if each.page.startswith(f"{part}/")]
    return max((max(page.weeks) for page in pages), default=12)


def with_line(toc: Path, name: str) -> str:
    """The table of contents with the new page at the end of its part.

    Raises LabError where the part has no page yet.
    """
    text = toc.read_text(encoding="utf-8")
    lines = re.findall(rf"^ *- file: chapters/{name.partition('/')[0]}/\w+$\n?", text, re.MULTILINE)
    if not lines:
        raise LabError(f"page: _toc.yml has no page of this part; add chapters/{name} by hand")
    before, last, after = text.rpartition(lines[-1])
    return f"{before}{last.rstrip()}\n{re.match(' *', last)[0]}- file: chapters/{name}\n{after}"


def new_package(path: Path, title: str) -> Path | None:
    """The `__init__` that a folder of the library needs, written if it is missing."""
    package = path.with_name("__init__.py")
    if "lightvit_lab" not in path.parts or package.exists():
        return None
    save(package, f'"""{path.parent.name.capitalize()}: the room that {title} opened."""\n')
    return package


def filled(template: Path, values: dict[str, str]) -> str:
    """A file of the skeleton with its names in place."""
    text = template.read_text(encoding="utf-8")
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)


def save(path: Path, text: str) -> None:
    """Write a file, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write the files of a new page: they build and "
                                     "pass their tests at once.")
    parser.add_argument("page", help="folder and short name, for example dynamic/my_method")
    parser.add_argument("--title", default="",
                        help="the title of the page (default: that of the plan in parts.yml, or "
                             "the short name in words)")
    chosen = parser.parse_args(arguments)
    try:
        written = lay(ROOT, chosen.page, chosen.title)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    paths = [path.relative_to(ROOT) for path in written]
    print("These files are written; they build and pass their tests:", *paths, sep="\n    ")
    print("Now write your method in their place. A page may also change book/references.bib, "
          "book/glossary.md, book/notation.md and lightvit_lab/survey/*.csv. "
          "Then run: make notebooks && make test && make book")
    return 0


if __name__ == "__main__":
    sys.exit(main())
