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
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import jupytext

from lightvit_lab.errors import LabError

# lightvit_lab/exercises/answers has the same: it cannot be imported here, where there is no torch
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ANSWER = re.compile(rf"^(?P<indent> *){BEGIN} *\n(?P<answer>.*?)^(?P=indent){END} *$",
                    re.DOTALL | re.MULTILINE)
CHECK_CALL = re.compile(r"""^[^#\n]*\bcheck\(\s*["']([^"']+)["']""", re.MULTILINE)


def without_markers(code: str) -> str:
    """Code without the lines that are markers."""
    return "\n".join(line for line in code.splitlines() if line.strip() not in (BEGIN, END))


class Solution(NamedTuple):
    """A solution cell: the exercise's id, the code, the call of `check`, the answer given to it."""

    name: str
    code: str
    call: str
    answer: str


def solution_of(source: str) -> Solution:
    """The parts of a solution cell, whose call of `check` may run over several lines.

    Raises LabError unless it is Python, and calls check("<id>", answer) once, on lines of its own.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise LabError(f"a solution cell is no Python: {error}") from error
    calls = [node for node in ast.walk(ast.Module(statements, [])) if isinstance(node, ast.Call)
             and ast.unparse(node.func).split(".")[-1] == "check"]
    given = _arguments(calls[0]) if len(calls) == 1 else None
    own = [each for each in statements if getattr(each, "value", None) in calls]
    if given is None or not own or _shares_a_line(own[0], statements):
        raise LabError(f"a solution cell checks {list(map(ast.unparse, calls))}; give one exercise "
                       'by check("<id>", answer), on lines of its own')
    lines, first, last = source.splitlines(), own[0].lineno - 1, own[0].end_lineno
    code = "\n".join([*lines[:first], *lines[last:]]).strip()
    return Solution(given[0], code, "\n".join(lines[first:last]), given[1])


def _arguments(call: ast.Call) -> tuple[str, str] | None:
    """The id and the answer's expression that are given to `check`; None where they are not."""
    named = {each.arg: each.value for each in call.keywords}
    given = {**dict(zip(("exercise_id", "answer"), call.args)), **named}
    name = getattr(given.get("exercise_id"), "value", None)
    fits = isinstance(name, str) and "answer" in given
    return (name, ast.unparse(given["answer"])) if fits else None


def _shares_a_line(one: ast.stmt, statements: list[ast.stmt]) -> bool:
    """Whether another of the statements stands on a line of this one."""
    return any(other is not one and other.lineno <= one.end_lineno
               and other.end_lineno >= one.lineno for other in statements)


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


@cache
def solution_cells(page_text: str) -> Mapping[str, str]:
    """Exercise label -> source of the first code cell of the MyST page that checks it.

    A page is read once, though each of its exercises asks.
    """
    found: dict[str, str] = {}
    for cell in jupytext.reads(page_text, fmt="md:myst").cells:
        if cell.cell_type == "code":
            for label in labels_checked(cell.source):
                found.setdefault(label, cell.source)
    return MappingProxyType(found)


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
