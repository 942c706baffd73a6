"""The stub of an exercise leaves out the answer and nothing else, and cells that cannot give one are refused."""

import pytest
import stubs

from lightvit_lab.errors import LabError
from lightvit_lab.exercises import answers

SOLUTION = '''\
import math

def area(radius):
    """Radius in metres -> square metres."""
    ### BEGIN SOLUTION
    square = radius ** 2
    return math.pi * square
    ### END SOLUTION

check("page.area", area)'''

STUB = '''\
import math

def area(radius):
    """Radius in metres -> square metres."""
    raise NotImplementedError

check("page.area", area)'''


def test_the_answer_inside_a_function_becomes_a_raise_at_its_own_indentation():
    assert stubs.stub_of(SOLUTION) == STUB


def test_a_stub_at_the_top_level_runs_without_raising():
    answer = "rows, cols = 14, 14\nanswer = rows * cols"
    stub = stubs.stub_of(f"### BEGIN SOLUTION\n{answer}\n### END SOLUTION\nprint(answer)")
    assert stub == "rows = ...\ncols = ...\nanswer = ...\nprint(answer)"
    exec(stub, {})


def test_a_function_defined_between_the_markers_keeps_its_name_bound():
    assert stubs.stub_of("### BEGIN SOLUTION\ndef f(x):\n    y = x\n    return y\n### END SOLUTION") == "f = ..."


def test_two_answers_in_one_cell_are_both_taken_out():
    cell = SOLUTION.replace('check("page.area", area)', "### BEGIN SOLUTION\nbest = 3\n### END SOLUTION")
    assert stubs.stub_of(cell) == STUB.replace('check("page.area", area)', "best = ...")


@pytest.mark.parametrize(("cell", "message"), [
    ("answer = 3", "no markers"),
    ("### BEGIN SOLUTION\nanswer = 3", "do not pair up"),
    ("answer = 3\n### END SOLUTION", "do not pair up"),
    ("def f():\n    ### BEGIN SOLUTION\n    return 3\n### END SOLUTION", "do not pair up"),
    ("### BEGIN SOLUTION\nprint(3)\n### END SOLUTION", "binds no name"),
])
def test_a_cell_that_gives_no_stub_is_refused(cell, message):
    with pytest.raises(LabError, match=message):
        stubs.stub_of(cell)


PAGE = '''\
# Title

```python
check("page.shown", "in a listing, not in a cell")
```

```{{code-cell}} ipython3
:tags: [hide-input]
{cell}
```

```{{code-cell}} ipython3
check("page.area", "a later cell does not count")
# check("page.commented", 1)
```
'''


def test_the_first_code_cell_that_checks_a_label_is_its_solution_and_loses_its_options():
    assert stubs.solution_cells(PAGE.format(cell=SOLUTION)) == {"page.area": SOLUTION}


def test_the_library_and_the_book_know_the_same_markers():
    for name in ("BEGIN", "END", "ANSWER"):
        assert getattr(stubs, name) == getattr(answers, name)
