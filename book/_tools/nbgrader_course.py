"""Notebooks that nbgrader takes as the source of an assignment: tagged cells, hidden tests.

An exercise's cell becomes two: the answer, which nbgrader empties between our markers (they are
nbgrader's own), and a locked test with the points. `nbgrader generate_assignment STEM` and
`nbgrader autograde STEM` do the rest.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import notebooks
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from stubs import ANSWER, BEGIN, Solution, solution_of, stub_of


CONFIG = '''c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "lightvit_lab"
# In a function `raise NotImplementedError` stands below it, elsewhere `answer = ...` above it:
# Run All never stops.
c.ClearSolutions.code_stub = {"python": "# Write your answer here"}
c.Execute.timeout = 600          # seconds for a cell; the live experiments take about 15
'''


def source_notebook(solved: NotebookNode, points: dict[str, int]) -> NotebookNode:
    """The source notebook out of a derived one with solutions; `points` for each exercise id."""
    cells: list[NotebookNode] = []
    for cell in copy.deepcopy(solved.cells):
        if cell.cell_type == "code" and BEGIN in cell.source:
            cells += exercise_cells(cell, points)
        else:
            cells.append(by_hand(cell, points) if "lightvit_lab" in cell.metadata else cell)
    return notebooks.assemble(cells, solved.metadata["lightvit_lab"]["ref"])


def exercise_cells(cell: NotebookNode, points: dict[str, int]) -> list[NotebookNode]:
    """The answer cell and the test cell of one exercise."""
    solution = solution_of(cell.source)
    grade_id = re.sub(r"\W", "-", solution.name)
    emptied = ANSWER.sub(with_stub, solution.code)
    return [tagged(emptied, f"{grade_id}-answer", solution=True, locked=False),
            tagged(test_source(solution), grade_id, grade=True, points=points[solution.name])]


def by_hand(cell: NotebookNode, points: dict[str, int]) -> NotebookNode:
    """The cell for the answer to an open question, for which nbgrader asks the teacher."""
    name = cell.metadata["lightvit_lab"]["open_question"]
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": re.sub(r"\W", "-", name),
                                 "grade": True, "solution": True, "locked": False,
                                 "task": False, "points": points[name]}
    return cell


def with_stub(block: re.Match[str]) -> str:
    """The answer with what is to be left when nbgrader has emptied it."""
    if block["indent"]:
        # never reached: the answer returns before
        return f"{block[0]}\n{block['indent']}raise NotImplementedError"
    return f"{stub_of(block[0])}\n{block[0]}"


def test_source(solution: Solution) -> str:
    """The check that a student has, and the hidden tests, which nbgrader cuts out for students."""
    return (f"{solution.call}\n### BEGIN HIDDEN TESTS\n"
            "from lightvit_grader.hidden import require_passed\n"
            f"require_passed({solution.name!r}, {solution.answer})\n### END HIDDEN TESTS")


def tagged(source: str, grade_id: str, **options: Any) -> NotebookNode:
    """A code cell with nbgrader's metadata."""
    cell = new_code_cell(source)
    plain = {"grade": False, "solution": False, "locked": True, "task": False}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": grade_id, **plain, **options}
    return cell
