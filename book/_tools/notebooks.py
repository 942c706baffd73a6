"""Derive the notebooks that Colab opens from the pages: stubs for solutions, no outputs.

`python book/_tools/notebooks.py` writes the notebook of each page that has code cells into the
page's folder (`make notebooks`); `--check` only says which are out of step. Raises LabError, with
page and line, on markup that it does not know.

A notebook names the commit whose library its first cell installs. That commit has the page as it
stands, so page and library were tested together there. A notebook keeps its commit until its page
changes, whatever the library does meanwhile: `make test-book` runs the pages with the library of
today, and what breaks one has to change that page.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import install_cell
import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError, myst_to_notebook
from myst_markdown import Page, convert, with_bibliography
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from stubs import BEGIN, stub_of

from lightvit_lab.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
# what the install cell fetches
INSTALLED = ["lightvit_lab", "book/results", "book/zoo", "pyproject.toml"]
# what images point at
PICTURES = ["book/_static", "chapters/*.png", "chapters/*.svg", "chapters/*.jpg"]
# the tags that notebook tools act on
ACTIVE_TAGS = {"skip-execution", "raises-exception"}
OPEN = re.compile(r"^:::+\{open-question\} *(?P<title>.+?) *\n:label: *(?P<id>\S+) *$",
                  re.MULTILINE)
HIDING_TAGS = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def derive(page: Path, ref: str, solutions: bool = False, code: str = "") -> NotebookNode:
    """The notebook of a MyST page, pinned to commit `ref`; with `solutions`, the answers stay in.

    `code` is taken for the fingerprint of the library at `ref` where git does not have that commit.
    Raises LabError, naming page and line, on a directive, role, link or citation it does not know.
    """
    page = Path(page).resolve()
    root = next((folder for folder in page.parents if (folder / "pyproject.toml").is_file()), ROOT)
    project = read_project(root)
    reading = Page(page, root, project["urls"]["Repository"].rstrip("/"), ref)
    title, *body = cells_of(reading, solutions)
    code = code_at(root, ref) or code
    least = lowest_versions(project)
    setup = new_code_cell(install_cell.source(reading.repository, ref, least, code))
    setup.metadata = {"cellView": "form", "jupyter": {"source_hidden": True}}
    heading, rest = split_title(reading, title)
    cells = [heading, setup, *([rest] if rest else []), *body]
    for cell in cells:
        cell.source = with_bibliography(reading, cell.source)
    notebook = assemble(cells, ref)
    if code:
        notebook.metadata["lightvit_lab"]["code"] = code
    return notebook


def cells_of(page: Page, solutions: bool) -> list[NotebookNode]:
    """The cells a learner gets, in order, the page's first text leading."""
    try:
        source = copy.deepcopy(parsed(page.text))
    except (MystMetadataParsingError, nbformat.ValidationError, yaml.YAMLError) as error:
        raise LabError(f"{page.place(1)}: front matter or a cell's options cannot be read: "
                       f"{error}") from error
    lines, result = page.text.splitlines(), []
    for cell, start in zip(source.cells, source.metadata["source_map"]):
        if "book-only" in tags_of(cell):
            continue
        if cell.cell_type == "code":
            result.append(code_cell(page, cell, start, solutions))
        elif cell.cell_type == "markdown":
            first = next(i for i in range(start, len(lines)) if lines[i].strip())
            result += text_cells(page, cell.source.split("\n"), first + 1)
    if not result or result[0].cell_type != "markdown":
        raise LabError(f"{page.place(1)}: a page begins with its title, `# Title`, "
                       "before any code cell")
    return result


@lru_cache(maxsize=64)
def parsed(text: str) -> NotebookNode:
    """The cells of a page as MyST-NB reads them, and the lines they begin at: not to be changed."""
    return myst_to_notebook(text, add_source_map=True)


def text_cells(page: Page, lines: list[str], first: int) -> Iterator[NotebookNode]:
    """A text of the page from line `first` on; behind each open question, a cell for its answer.

    Raises LabError on one without title or label, which would have none.
    """
    begin, fence, question = 0, "", None
    for number, line in enumerate([*lines, ""], 1):
        opening = OPEN.match("\n".join(lines[number - 1:number + 1]))
        if opening:
            question, fence = opening["id"], line.partition("{")[0]
        elif re.match(r" *[:`]{3,}\{open-question\}", line):
            raise LabError(f"{page.place(first + number - 1)}: write an open question as "
                           "`:::{open-question} Title`, with `:label: <id>` on the next line")
        elif number > len(lines) or question and line.strip() == fence:
            text = "\n".join(convert(page, lines[begin:number], first + begin)).strip("\n")
            if text:
                yield new_markdown_cell(text)
            if question:
                yield answer_cell(question)
            begin, question = number, None


def answer_cell(question: str) -> NotebookNode:
    """The cell below an open question, for the reader's answer; it stores the question's id."""
    cell = new_markdown_cell("*Your answer: double-click here, and write.*")
    cell.metadata["lightvit_lab"] = {"open_question": question}
    return cell


def code_cell(page: Page, cell: NotebookNode, line: int, solutions: bool) -> NotebookNode:
    """A code cell without what only the book understands; its stub where it holds a solution."""
    tags, is_exercise = tags_of(cell), BEGIN in cell.source
    source = cell.source
    if is_exercise and not solutions:
        try:
            source = stub_of(source)
        except (LabError, SyntaxError) as error:
            raise LabError(f"{page.place(line)}: {error}") from error
    result = new_code_cell(source)
    if tags & ACTIVE_TAGS:
        result.metadata["tags"] = sorted(tags & ACTIVE_TAGS)
    if tags & HIDING_TAGS and not is_exercise:
        fold(result, cell.metadata.get("mystnb", {}).get("code_prompt_show", "A question first"))
    return result


def fold(cell: NotebookNode, title: str) -> None:
    """Hide a cell's code behind its title, in JupyterLab and, as a form, in Colab."""
    cell.source = f'# @title {title} {{ display-mode: "form" }}\n{cell.source}'
    cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}


def tags_of(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def split_title(page: Page, cell: NotebookNode) -> tuple[NotebookNode, NotebookNode | None]:
    """The title with a line on the book, and the rest of the page's first cell."""
    title, _, rest = cell.source.partition("\n")
    if not title.startswith("# "):
        raise LabError(f"{page.place(1)}: a page begins with its title, `# Title`, not {title!r}")
    note = (f"*This notebook goes with a [page of the book]({page.book_link(page.path)}), where "
            "its figures and solutions are; here the code is yours to run and change. Begin with "
            "the next cell: it installs what is missing.*")
    below = new_markdown_cell(rest.strip("\n")) if rest.strip() else None
    return new_markdown_cell(f"{title}\n\n{note}"), below


def assemble(cells: list[NotebookNode], ref: str) -> NotebookNode:
    """A notebook whose cell ids come from the cells' text: an edit changes no other cell."""
    counts: Counter[str] = Counter()
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        counts[digest] += 1
        cell.id = digest if counts[digest] == 1 else f"{digest}-{counts[digest]}"
    for cell in cells[1:2]:
        cell.id = "set-up"
    metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "lightvit_lab": {"ref": ref},
    }
    notebook = new_notebook(cells=cells, metadata=metadata, nbformat_minor=5)
    nbformat.validate(notebook)
    return notebook


def read_project(root: Path) -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lowest_versions(project: dict[str, Any]) -> dict[str, str]:
    """Lower bound of each package the library requires."""
    bounds = (re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", requirement)
              for requirement in project.get("dependencies", []))
    return {bound[1].lower(): bound[2] for bound in bounds if bound}


def pages(root: Path = ROOT) -> list[Path]:
    """The pages of the book that have code cells."""
    cell = re.compile(r"^`{3,}\{code-cell\}", re.MULTILINE)
    return [page for page in sorted((root / "chapters").glob("**/*.md"))
            if cell.search(page.read_text(encoding="utf-8"))]


def pinned_commit(root: Path = ROOT, page: Path | None = None) -> str:
    """The last commit that changed what a notebook fetches, or its page; "main" without git."""
    paths = [*INSTALLED, *PICTURES, *([str(page)] if page else [])]
    answer = git(root, "log", "-1", "--format=%H", "--", *paths)
    return answer.strip() or "main"


def pin_of(page: Path, root: Path = ROOT) -> tuple[str, str]:
    """The commit that the notebook of a page names, and the fingerprint of the library there.

    The one it names already, as long as the page stood there as it stands now; else the newest.
    """
    ref, code = pin_in_notebook(page)
    if ref and (has_page(root, ref, page) or (not has_commit(root, ref) and in_step(page))):
        return ref, code
    return pinned_commit(root, page), ""


def pin_in_notebook(page: Path) -> tuple[str, str]:
    """Commit and fingerprint in the notebook of a page; two empty words where none is readable."""
    try:
        pin = nbformat.read(page.with_suffix(".ipynb"), as_version=4).metadata["lightvit_lab"]
        return pin["ref"], pin.get("code", "")
    except (OSError, KeyError, ValueError, nbformat.ValidationError):
        return "", ""


def has_page(root: Path, ref: str, page: Path) -> bool:
    """Whether a commit of this history has the page as it stands now."""
    in_past = ref == "HEAD" or git(root, "merge-base", ref, "HEAD").strip() == ref
    there = git(root, "show", f"{ref}:./{page.relative_to(root).as_posix()}")
    return in_past and there == page.read_text(encoding="utf-8")


def has_commit(root: Path, ref: str) -> bool:
    """Whether git has a commit; a shallow clone may not."""
    return bool(git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"))


@cache
def code_at(root: Path, ref: str) -> str:
    """Fingerprint of the library's code at a commit; nothing for a branch, which moves.

    Nothing either where git has no such commit.
    """
    if not re.fullmatch("[0-9a-f]{40}", ref):
        return ""
    try:
        packed = subprocess.run(["git", "archive", "--format=zip", ref, "lightvit_lab"],
                                cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {name.partition("/")[2]: archive.read(name)
                 for name in archive.namelist() if name.endswith(".py")}
    return install_cell.fingerprint(files)


def git(root: Path, *arguments: str) -> str:
    """What a git command prints; nothing if it fails or git is missing."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True,
                              text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def text_of(notebook: NotebookNode) -> str:
    """A notebook as it is written to a file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def in_step(page: Path) -> bool:
    """Whether the notebook of a page is what it derives to, whatever commit it is pinned to."""
    ref, code = pin_in_notebook(page)
    if not ref:
        return False
    text = page.with_suffix(".ipynb").read_text(encoding="utf-8")
    return text == text_of(derive(page, ref, code=code))


def fault(page: Path, root: Path = ROOT) -> str:
    """What is wrong with the notebook of a page, in words; nothing if it is sound.

    A page that is not committed yet has no commit to name: then only the notebook's text counts.
    """
    if not in_step(page):
        return "its notebook is out of step"
    ref, _ = pin_in_notebook(page)
    if has_commit(root, ref) and has_page(root, "HEAD", page) and not has_page(root, ref, page):
        return f"its notebook names commit {ref[:9]}, which does not have the page as it is now"
    return ""


def check(root: Path = ROOT) -> int:
    """Name the pages whose notebook is out of step; 1 if there are any, else 0."""
    faults = {page.relative_to(root).as_posix(): fault(page, root) for page in pages(root)}
    for name in filter(faults.get, faults):
        print(f"{name}: {faults[name]}; run `make notebooks` and commit the result")
    return int(any(faults.values()))


def write(ref: str | None, out: Path, root: Path = ROOT, solutions: bool = False) -> None:
    """Derive every page's notebook into `out`, at the page's own place below it.

    With `ref` every notebook names that commit; without, each the one of `pin_of`.
    """
    for page in pages(root):
        pin, code = (ref, "") if ref else pin_of(page, root)
        target = (out / page.relative_to(root)).with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text_of(derive(page, pin, solutions, code)), encoding="utf-8")
        print(f"{page.relative_to(root)} -> {target}, at {pin[:9]}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    text = "Write the notebook of each page, with empty stubs where the page has solutions."
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--check", action="store_true",
                        help="write nothing; name the notebooks that do not fit their page, exit 1")
    parser.add_argument("--ref",
                        help="the commit, tag or branch that all notebooks name (default: each "
                             "its own)")
    parser.add_argument("--out", type=Path, default=ROOT,
                        help="the folder to write into (default: beside the pages)")
    parser.add_argument("--solutions", action="store_true",
                        help="keep the solutions, to run them; needs --out")
    options = parser.parse_args(arguments)
    if options.solutions and options.out.resolve() == ROOT:
        parser.error("--solutions would put the answers into the notebooks that readers open; give "
                     "--out FOLDER too")
    import exercise_bundle    # which imports this file

    try:
        if options.check:
            return check() | exercise_bundle.check()
        write(options.ref, options.out, solutions=options.solutions)
        if options.out.resolve() == ROOT:
            exercise_bundle.write()
        paths = [*INSTALLED, *PICTURES, "chapters/**.md"]
        if options.ref is None and git(ROOT, "status", "--porcelain", "--", *paths):
            print("Note: pages or library have changes that are not committed. The notebook of a "
                  "changed page names the last commit; run this again after you commit, and "
                  "commit the notebooks.")
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
