"""Every code cell of every page on the second device: none mixes devices, none leaves a thing."""

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import run_page
import second_device

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for folder in ("book", "chapters")
    for page in (ROOT / folder).glob("**/*.md")
    if re.search(r"^`{3,}\{code-cell\}", page.read_text(encoding="utf-8"), re.MULTILINE)
)
# (page, a part of the error) -> why it says nothing of a GPU.
DENSE = "a GPU has sparse rows, the second device has dense tensors alone"
CUT = {
    ("pruning", "SparseCsr"): DENSE,
    ("pruning", "formats['50%'].matrix is on lab"): DENSE,
    ("pruning", "name 'sparse_ratios' is not defined"): DENSE,  # the table of what was timed there
}


@pytest.fixture(scope="session")
def runs(request, tmp_path_factory):
    """Page -> what run_page.py will say of it; two run at a time, each in a fork of one process that has the imports."""
    asked = [
        item.callspec.params["page"]
        for item in request.session.items
        if "page" in getattr(item, "fixturenames", ())
    ]
    second_device.build()       # once, before the pages that would all begin with it
    folder = tmp_path_factory.mktemp("pages")
    way = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(way)
    context.set_forkserver_preload(["run_page", *run_page.IMPORTS])
    with ProcessPoolExecutor(2, context, max_tasks_per_child=1) as pool:
        yield {page: pool.submit(run_page.alone, page, folder / page.stem) for page in asked}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_cell_of_the_page_runs_on_the_device_and_leaves_nothing_there(page, runs, capsys):
    found = runs[page].result(timeout=900)
    with capsys.disabled():
        print(f" {page.stem}: {found['seconds']:.0f} s", end=" ")
        print(f"({found['cpu_seconds']:.0f} s of CPU), {found['cells']} cells, slowest", end=" ")
        print(*(f"{seconds:.0f} s (line {line})" for seconds, line in found["slowest"]), sep=", ")
    failures = [
        f"{page.relative_to(ROOT)}:{line}: {error}"
        for line, error in found["failures"]
        if not any(name == page.stem and part in error for name, part in CUT)
    ]
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
    assert found["operators"], "nothing on this page ran on the device"
