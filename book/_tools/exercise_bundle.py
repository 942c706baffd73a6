"""What the library knows of a page's exercises, copied from the page by `make notebooks`.

    lightvit_lab/exercises/<part>/<stem>.json            title, prompt and stub of each
    lightvit_lab/exercises/answers/<part>/<stem>.json    the code of each solution, and its answer

The page is the only place that says them; a test fails where the copies are out of step.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from pathlib import Path

import notebooks
from myst_directives import TITLES
from myst_markdown import Page
from stubs import ANSWER, CHECK_CALL, stub_of

from lightvit_lab.errors import LabError

HEADING = re.compile(r"^### Exercise(?: \d+)?(?:: (?P<title>.*))?$", re.MULTILINE)


def bundle(page: Path, root: Path = notebooks.ROOT) -> tuple[dict, dict]:
    """By exercise id: title, prompt and stub; and by id: code and answer of the solution.

    Raises LabError where a solution cell checks none or several exercises, or none stands above it.
    """
    repository = notebooks.read_project(root)["urls"]["Repository"].rstrip("/")
    reading = Page(page.resolve(), root, repository, "main")
    posed, solved, text = {}, {}, ""
    for cell in notebooks.cells_of(reading, solutions=True):
        if cell.cell_type == "markdown":
            text = cell.source
            posed.update(open_questions(text, reading.text))
        elif ANSWER.search(cell.source):
            name, code, answer = solution(page, cell.source)
            headings = list(HEADING.finditer(text))
            if not headings:
                raise LabError(f"{page.name}: no exercise box stands above the solution of {name}")
            posed[name] = {"title": headings[-1]["title"] or name,
                           "prompt": text[headings[-1].end():].strip(),
                           "stub": stub_of(cell.source)}
            solved[name] = {"code": code, "answer": answer}
    return posed, solved


def open_questions(text: str, source: str) -> dict[str, dict[str, str]]:
    """Id -> title and prompt of the open questions in `text`, a cell of a page of this `source`."""
    found = {}
    for question in notebooks.OPEN.finditer(source):
        title = rf"{TITLES['open-question']} \d+: {re.escape(question['title'])}"
        first = re.search(rf"^> \*\*{title}\*\*$", text, re.MULTILINE)
        if first:
            below = text[first.end() + 1:].splitlines()
            lines = itertools.takewhile(lambda line: line.startswith(">"), below)
            prompt = "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)
            found[question["id"]] = {"title": question["title"], "prompt": prompt.strip()}
    return found


def solution(page: Path, source: str) -> tuple[str, str, str]:
    """Id, code and answer of a solution cell."""
    lines = source.splitlines()
    calls = [line for line in lines if CHECK_CALL.match(line)]
    if len(calls) != 1:
        raise LabError(f"{page.name}: a solution cell checks {CHECK_CALL.findall(source)}; give "
                       "one exercise")
    call = ast.parse(calls[0].strip()).body[0].value
    code = "\n".join(line for line in lines if line not in calls).strip()
    return call.args[0].value, code, ast.unparse(call.args[1])


def files(page: Path, root: Path = notebooks.ROOT) -> dict[Path, str]:
    """Each file that is derived from a page, with the text that belongs into it."""
    part, stem = page.parent.name, page.stem
    folder = root / "lightvit_lab" / "exercises"
    posed, solved = bundle(page, root)
    places = {folder / part / f"{stem}.json": posed,
              folder / "answers" / part / f"{stem}.json": solved}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            for path, content in places.items() if content}


def write(root: Path = notebooks.ROOT) -> None:
    """Copy every page's exercises into the library."""
    for page in notebooks.pages(root):
        for path, text in files(page, root).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def check(root: Path = notebooks.ROOT) -> int:
    """Name the files that are out of step; 1 if there are any, else 0."""
    wrong = [path for page in notebooks.pages(root) for path, text in files(page, root).items()
             if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path.relative_to(root)} is not what its page says; run `make notebooks` and "
              "commit the result")
    return int(bool(wrong))
