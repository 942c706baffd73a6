"""Every code cell of every page on the second device: none mixes devices, none leaves a thing."""

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_page.py")
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
class Runs:
    """Pages run by a thread, from the last, and by whoever asks for one that was not begun."""

    def __init__(self, pages, folder):
        self.results, self.folder, self.lock = (
            {page: None for page in pages},
            folder,
            threading.Lock(),
        )
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        for page in reversed(list(self.results)):
            self.result(page)

    def result(self, page):
        with self.lock:
            mine = self.results[page] is None
            future = self.results[page] = self.results[page] or Future()
        if mine:
            try:
                future.set_result(run(page, self.folder / page.stem))
            except Exception as error:  # noqa: BLE001  whoever asks for the page shall see it
                future.set_exception(error)
        return future.result()


def run(page, folder):
    """What run_page.py says of a page, in an empty folder, without the settings of this shell."""
    folder.mkdir()
    plain = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("LIGHTVIT_") or name.lower().endswith("_proxy"))
    }
    settings = {
        "LIGHTVIT_DEVICE": "lab",
        "LIGHTVIT_BOOK": "1",
        "LIGHTVIT_PROGRESS": "0",
        "HF_HUB_OFFLINE": "1",
        "LIGHTVIT_CACHE": str(folder / "cache"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        cwd=folder,
        env={**plain, **settings},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{page.name} did not run: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def runs(request, tmp_path_factory):
    asked = [
        item.callspec.params["page"]
        for item in request.session.items
        if "page" in getattr(item, "fixturenames", ())
    ]
    return Runs(asked, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_cell_of_the_page_runs_on_the_device_and_leaves_nothing_there(page, runs, capsys):
    found = runs.result(page)
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
