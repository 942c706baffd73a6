"""Exercise stubs, derived from the solutions, for the page and for the derived notebook.

A solution cell holds its answer between two marker lines. The stub is the same cell with the answer
taken out:

    def double(x):                                def double(x):
        ### BEGIN SOLUTION                            raise NotImplementedError
        return 2 * x                     ->
        ### END SOLUTION                          check("page.double", double)

    check("page.double", double)

At the top level nothing may raise, or "Run all" would stop there: every name the answer binds
becomes `...`.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator

import jupytext

from lightvit_lab.errors import LabError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ANSWER = re.compile(rf"^(?P<indent> *){BEGIN} *\n(?P<answer>.*?)^(?P=indent){END} *$",
                    re.DOTALL | re.MULTILINE)
CHECK_CALL = re.compile(r"""^[^#\n]*\bcheck\(\s*["']([^"']+)["']""", re.MULTILINE)


def stub_of(source: str) -> str:
    """The cell a learner starts from: `source` with each answer between markers replaced.

    Raises LabError when there are no markers, when they do not pair up, or when an answer leaves
    nothing to fill in.
    """
    stub, count = ANSWER.subn(_blank, source)
    if BEGIN in stub or END in stub:
        raise LabError(f"the markers of the solution cell do not pair up; write {BEGIN!r} before "
                       f"the answer and {END!r} after it, each on its own line, equally indented")
    if not count:
        raise LabError(f"the solution cell has no markers; put the answer between {BEGIN!r} and "
                       f"{END!r}")
    return stub


def solution_cells(page_text: str) -> dict[str, str]:
    """Exercise label -> source of the first code cell of the MyST page that checks it."""
    found: dict[str, str] = {}
    for cell in jupytext.reads(page_text, fmt="md:myst").cells:
        if cell.cell_type == "code":
            for label in labels_checked(cell.source):
                found.setdefault(label, cell.source)
    return found


def labels_checked(source: str) -> list[str]:
    """The labels a code cell gives to `check`, in order."""
    return CHECK_CALL.findall(source)


def _blank(block: re.Match[str]) -> str:
    """What replaces an answer: a raise in a function, names bound to `...` at the top level."""
    if block["indent"]:
        return block["indent"] + "raise NotImplementedError"
    names = list(dict.fromkeys(_names_bound(block["answer"])))
    if not names:
        raise LabError("the answer at the top level of the solution cell binds no name, so nothing "
                       "is left to fill in; write it as an assignment such as answer = 196")
    return "\n".join(f"{name} = ..." for name in names)


def _names_bound(source: str) -> Iterator[str]:
    """Names that the top-level statements of `source` assign or define, in order."""
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = getattr(statement, "targets", None) or [statement.target]
            for node in itertools.chain(*map(ast.walk, targets)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
