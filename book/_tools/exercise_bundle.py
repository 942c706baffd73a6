"""What the library knows of a page's exercises, copied from the page by `make notebooks`.

    lightvit_lab/exercises/<part>/<stem>.json            title, prompt and stub of each
    lightvit_lab/exercises/answers/<part>/<stem>.json    the code of each solution, and its answer

The page is the only place that says them; a test fails where the copies are out of step.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import notebooks
from myst_directives import TITLES
from myst_markdown import Page
from stubs import BEGIN, solution_of, stub_of

from lightvit_lab.errors import LabError

HEADING = re.compile(r"^### Exercise(?: \d+)?(?:: (?P<title>.*))?$", re.MULTILINE)
QUESTION = re.compile(rf"^> \*\*{TITLES['open-question']} \d+: (?P<title>.*)\*\*$", re.MULTILINE)


def bundle(page: Path, root: Path = notebooks.ROOT) -> tuple[dict, dict]:
    """By exercise id: title, prompt and stub; and by id: code and answer of the solution.

    Raises LabError where a solution cell checks none or several exercises, or none stands right
    above it, and where an open question is not to be found above its answer's cell.
    """
    repository = notebooks.read_project(root)["urls"]["Repository"].rstrip("/")
    reading = Page(page.resolve(), root, repository, "main")
    posed, solved, text = {}, {}, ""
    for cell in notebooks.cells_of(reading, solutions=True):
        try:
            if "lightvit_lab" in cell.metadata:
                name = cell.metadata["lightvit_lab"]["open_question"]
                posed[name] = open_question(name, text)
            elif cell.cell_type == "markdown":
                text = cell.source
            elif BEGIN in cell.source:
                one = solution_of(cell.source)
                posed[one.name] = {**box_above(one.name, text), "stub": stub_of(cell.source)}
                solved[one.name] = {"code": one.code, "answer": one.answer}
                text = ""                  # its box is no other solution's
        except LabError as error:
            raise LabError(f"{page.name}: {error}") from error
    return posed, solved


def box_above(name: str, text: str) -> dict[str, str]:
    """Title and prompt of the last exercise in `text`, the cell above its solution."""
    headings = list(HEADING.finditer(text))
    if not headings:
        raise LabError(f"no exercise box stands above the solution of {name}")
    return {"title": headings[-1]["title"] or name, "prompt": text[headings[-1].end():].strip()}


def open_question(name: str, text: str) -> dict[str, str]:
    """Title and prompt of the open question in `text`, the cell above that for its answer."""
    heads = list(QUESTION.finditer(text))
    if not heads:
        raise LabError(f"the open question {name} has no box above the cell for its answer; give "
                       "it a title on the line of the directive")
    below = text[heads[-1].end() + 1:].splitlines()
    lines = itertools.takewhile(lambda line: line.startswith(">"), below)
    prompt = "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)
    return {"title": heads[-1]["title"], "prompt": prompt.strip()}


def files(page: Path, root: Path = notebooks.ROOT) -> dict[Path, str]:
    """Each file that is derived from a page, with the text that belongs into it."""
    part, stem = page.parent.name, page.stem
    folder = root / "lightvit_lab" / "exercises"
    posed, solved = bundle(page, root)
    places = {folder / part / f"{stem}.json": posed,
              folder / "answers" / part / f"{stem}.json": solved}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            for path, content in places.items() if content}


def all_files(root: Path) -> dict[Path, str | None]:
    """The files of every page, and with None those that no page has any more."""
    there = (root / "lightvit_lab" / "exercises").rglob("*.json")
    found: dict[Path, str | None] = dict.fromkeys(sorted(there))
    for page in notebooks.pages(root):
        found.update(files(page, root))
    return found


def write(root: Path = notebooks.ROOT) -> None:
    """Copy every page's exercises into the library; what no page has any more is deleted."""
    for path, text in all_files(root).items():
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def check(root: Path = notebooks.ROOT) -> int:
    """Name the files that are out of step; 1 if there are any, else 0."""
    wrong = [path for path, text in all_files(root).items()
             if text is None or not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path.relative_to(root)} is not what its page says; run `make notebooks` and "
              "commit the result")
    return int(bool(wrong))
