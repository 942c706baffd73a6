"""Pages run two at a time, a cell that times alone, and a solution that does not pass its check stops the build."""

import time
from concurrent.futures import ThreadPoolExecutor

import lab_execution
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
STAMP = "import time\nstart = time.time()\ntime.sleep({})\nprint(start, time.time())"


def spans(notebook):
    """(start, end) of each cell that printed both."""
    return [tuple(map(float, cell.outputs[0].text.split())) for cell in notebook.cells if cell.get("outputs")]


def overlap(one, other):
    return min(one[1], other[1]) - max(one[0], other[0])


@pytest.mark.parametrize("source, times", [
    ("t = profiling.measure(pair, x)", True), ("measure(pair, x)", True), ("from time import perf_counter", False),
    ("start = perf_counter()", True), ("1 + 1", False), ("text = 'measure(pair, x)'", False),
    ("%matplotlib inline\nprofiling.roofline(model, x)", True), ("print(f'{history.seconds:.0f} s')", True),
])
def test_a_cell_that_calls_what_times_is_found_by_its_code_and_not_by_its_text(source, times):
    assert lab_execution.timing_cells([new_markdown_cell("measure()"), new_code_cell(source)]) == ({1} if times else set())


def test_a_function_of_the_page_that_times_makes_its_callers_timing_cells():
    cells = [new_code_cell("def race(a):\n    return profiling.measure(a, x)"), new_code_cell("def twice(a): return race(a)"),
             new_code_cell("other()"), new_code_cell("found = twice(models)")]
    assert lab_execution.timing_cells(cells) == {0, 1, 3}


def test_cells_of_two_pages_run_at_once_and_those_that_time_alone(tmp_path):
    alone = "def measure(): pass\nmeasure()\n" + STAMP.format(1)
    pages = [new_notebook(cells=[new_code_cell(STAMP.format(0.5)) for _ in range(4)], metadata=KERNEL),
             new_notebook(cells=[new_code_cell(STAMP.format(0.5)), new_code_cell(alone), new_code_cell(STAMP.format(0.5))],
                          metadata=KERNEL)]
    turns = lab_execution.Turns()
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda page: lab_execution.run(tmp_path / "page.md", page, turns, 60), pages):
            assert result.err is None
    plain, mixed = map(spans, pages)
    assert all(overlap(mixed[1], span) < 0.01 for span in plain)
    assert sum(max(0.0, overlap(mixed[at], span)) for at in (0, 2) for span in plain) > 0.1


def test_a_page_that_fails_within_a_timing_cell_gives_its_turn_back(tmp_path):
    turns = lab_execution.Turns()
    for source in ("perf_counter = 1 / 0\nperf_counter", "import os\nperf_counter = os._exit(1)\nperf_counter"):
        broken = new_notebook(cells=[new_code_cell(source)], metadata=KERNEL)
        try:
            assert lab_execution.run(tmp_path / "page.md", broken, turns, 60).err is not None
        except Exception as error:
            assert "Kernel died" in str(error)
        assert turns.inside == 0 and not turns.door.locked()


def test_who_must_be_alone_comes_before_those_that_ask_later():
    turns, order = lab_execution.Turns(), []

    def take(name, alone):
        turns.enter(alone)
        order.append(name)
        turns.leave(alone)

    turns.enter(False)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(take, "alone", True)
        while not turns.door.locked():
            time.sleep(0.01)
        pool.submit(take, "later", False)
        time.sleep(0.1)
        assert order == []
        turns.leave(False)
    assert order == ["alone", "later"]


@pytest.mark.parametrize("output, failed", [
    (new_output("stream", text="[passed] page.one: 2 of 2\n"), []),
    (new_output("stream", text="first\n[wrong] page.one: not so\n"), ["[wrong] page.one: not so"]),
    (new_output("execute_result", data={"text/plain": "[not started] page.two: a stub"}), ["[not started] page.two: a stub"]),
    (new_output("display_data", data={"image/png": ""}), []),
])
def test_a_solution_that_does_not_pass_is_found_in_what_its_cell_says(output, failed):
    assert lab_execution._failed_checks(new_notebook(cells=[new_code_cell("check()", outputs=[output])])) == failed
    assert lab_execution._failed_checks(None) == []
