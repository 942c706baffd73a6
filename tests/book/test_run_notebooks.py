"""Every derived notebook, run from top to bottom in a clean kernel without network, with solutions and with stubs.

"Run all" runs the cells for the reader's own machine too, which the build leaves out, and so do we. With stubs, trainings
are cut to two steps and timings to two rounds: what is tried is that nothing stops, and the build had the numbers. Their
kernels are forked with the imports done, all but one page's, where the system can fork.

Runs for minutes, so it is skipped unless LIGHTVIT_TEST_BOOK is "stubs" (`make test-book`: the build runs the solutions)
or "all" (on Colab's versions, for which no book is built).
"""

import functools
import os
import queue
import re
import sys
import time

import nbclient
import notebooks
import pytest
from jupyter_client.launcher import launch_kernel
from nbformat.v4 import new_code_cell
from warm_kernels import WarmKernels

pytestmark = pytest.mark.skipif(
    not os.environ.get("LIGHTVIT_TEST_BOOK"),
    reason="runs every page's notebook, which takes minutes: LIGHTVIT_TEST_BOOK=stubs or all, or make test-book")
SOLUTIONS = pytest.mark.skipif(os.environ.get("LIGHTVIT_TEST_BOOK") == "stubs", reason="the build ran the solutions")

# The kernel speaks to the test over loopback, so that alone stays open. Native code could still get round this;
# what our pages use goes through Python's sockets.
NO_NETWORK = '''
import socket

def refuse(*arguments, **options):
    raise OSError("this notebook reached for the network")

def on_loopback(call):
    def guarded(self, address):
        local = self.family == getattr(socket, "AF_UNIX", None) or address[0] in ("127.0.0.1", "::1", "localhost")
        return call(self, address) if local else refuse()
    return guarded

def resolve(host, *arguments, original=socket.getaddrinfo, **options):
    return original(host, *arguments, **options) if host in (None, "127.0.0.1", "::1", "localhost") else refuse()

socket.socket.connect = on_loopback(socket.socket.connect)
socket.socket.connect_ex = on_loopback(socket.socket.connect_ex)
socket.getaddrinfo = resolve
'''
CUT = """
import sys
sys.path.insert(0, {folder!r})
from shorten import for_pages, shorten
shorten()
for_pages({page!r})
"""
FORKS = sys.platform == "linux" and os.environ.get("LIGHTVIT_TEST_BOOK") == "stubs"
STARTED = [page for page in notebooks.pages() if page.stem == "vision_transformer"]     # their kernels are started anew
LAUNCH = "jupyter_client.provisioning.local_provisioner.launch_kernel"
STATUS = re.compile(r"^\[(passed|not started|wrong|error)\] (\S+):", re.MULTILINE)


class Client(nbclient.NotebookClient):
    """One that looks for a reply every second.

    An output widget makes nbclient send on the socket that it waits at, in a way by which the notice of a reply may be
    lost; it would look there again when its time is over, after five minutes.
    """

    async def async_start_new_kernel_client(self):
        client = await super().async_start_new_kernel_client()
        client.shell_channel.get_msg = functools.partial(in_steps, client.shell_channel.get_msg)
        return client


async def in_steps(get, timeout=None):
    """`get(timeout)`, tried every second; raises queue.Empty when `timeout` is over."""
    ends = time.monotonic() + (float("inf") if timeout is None else timeout)
    while (left := ends - time.monotonic()) > 1:
        try:
            return await get(timeout=1)
        except queue.Empty:
            continue
    return await get(timeout=max(left, 0))


def run(notebook, folder, before=""):
    """The notebook with its outputs, `before` run first; raises nbclient's CellExecutionError where a cell raises."""
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)     # which nbclient heeds, and JupyterLab and Colab do not
    notebook.cells.insert(0, new_code_cell(NO_NETWORK + before))
    client = Client(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute()


def text_of(cell) -> str:
    """What a code cell printed and returned, as plain text."""
    return "\n".join("".join(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
                     for output in cell.get("outputs", []))


def statuses(notebook) -> dict[str, str]:
    """Exercise id -> status of the last check in the notebook's outputs."""
    return {found[2]: found[1] for cell in notebook.cells for found in STATUS.finditer(text_of(cell))}


def checked(notebook) -> set[str]:
    """The exercise ids that the notebook's cells hand to `check`."""
    return {name for cell in notebook.cells if cell.cell_type == "code"
            for name in re.findall(r"""^\s*check\(["']([^"']+)""", cell.source, re.MULTILINE)}


@pytest.fixture(scope="session")
def warm_kernels():
    kernels = WarmKernels()
    yield kernels
    kernels.close()


@pytest.fixture
def clean_kernel(request, monkeypatch, tmp_path, warm_kernels):
    """An empty folder to run in, and no setting of this shell that a reader's kernel would not have."""
    asked = getattr(request.node, "callspec", None)
    if FORKS and not (asked and asked.params.get("page") in STARTED):
        monkeypatch.setattr(LAUNCH, warm_kernels.launch)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("LIGHTVIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")     # as in the build: two run at a time, and threads would wait for another
    monkeypatch.setenv("LIGHTVIT_PROGRESS", "0")   # or the checks below would be written into our own progress
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize("solutions, status", [
    pytest.param(True, "passed", id="solutions", marks=SOLUTIONS), pytest.param(False, "not started", id="stubs")])
@pytest.mark.parametrize("page", notebooks.pages(), ids=lambda page: page.stem)
def test_notebook_runs_to_its_end_and_every_check_says(page, solutions, status, clean_kernel):
    cut = CUT.format(folder=str(notebooks.ROOT / "tests" / "devices"), page=page.stem)
    notebook = run(notebooks.derive(page, "main", solutions=solutions), clean_kernel, "" if solutions else cut)
    assert statuses(notebook) == {name: status for name in checked(notebook)}
    assert "Everything this page needs is installed." in text_of(notebook.cells[2])


def small(*sources, tags=()):
    """A notebook of code cells, the last of which has `tags`."""
    cells = [new_code_cell(source) for source in sources]
    cells[-1].metadata["tags"] = list(tags)
    return notebooks.assemble(cells, "main")


@pytest.mark.parametrize("source", [
    "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)",
    "socket.create_connection(('192.0.2.1', 80), timeout=5)",
    "assert socket.socket().connect_ex(('192.0.2.1', 80))",
    "import torch; torch.hub.load_state_dict_from_url('http://example.org/none.pth')",
])
def test_a_notebook_that_reaches_for_the_network_fails(source, clean_kernel):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="this notebook reached for the network"):
        run(small(source), clean_kernel)


# What a cell of a kernel finds: names, settings, folders, how interrupts and other programs' ends reach it.
FOUND = """
import os, signal, subprocess, sys
print(sorted(globals()), sys.path, sys.argv[:1], sys.flags, os.getcwd(), sys.stdin, get_ipython(), __name__, sep="\\n")
print({name: os.environ[name] for name in sorted(os.environ) if name != "JPY_PARENT_PID"}, signal.getsignal(signal.SIGINT))
print(subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode, os.getpid() == os.getpgid(0))
"""


@pytest.mark.skipif(not FORKS, reason="every kernel is started as a reader's is")
def test_a_forked_kernel_finds_what_a_started_one_finds(clean_kernel, monkeypatch, warm_kernels):
    before = warm_kernels.forked
    found = []
    for launch in (warm_kernels.launch, launch_kernel):
        monkeypatch.setattr(LAUNCH, launch)
        found.append(re.sub(" at 0x[0-9a-f]+", "", text_of(run(small(FOUND), clean_kernel).cells[-1])))
    assert found[0] == found[1] and warm_kernels.forked == before + 1


def test_cells_that_the_build_leaves_out_are_run(clean_kernel):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        run(small("1 / 0", tags=["skip-execution"]), clean_kernel)


def test_cells_that_write_into_an_output_widget_are_not_waited_for_until_their_time_is_over(clean_kernel):
    writes = "import ipywidgets\nfor _ in range(20):\n    with ipywidgets.Output() as box:\n        print('x' * 5000)"
    began = time.monotonic()
    run(small(*[writes] * 6), clean_kernel)
    assert time.monotonic() - began < 200


def test_statuses_are_read_from_what_check_returns(clean_kernel):
    check = "from lightvit_lab.exercises import check\ncheck('vision_transformer.count', {})"
    for answer, status in (("...", "not started"), ("577", "passed"), ("3", "wrong")):
        notebook = run(small(check.format(answer)), clean_kernel)
        assert statuses(notebook) == {"vision_transformer.count": status} and len(checked(notebook)) == 1


def test_a_loop_without_end_that_floods_the_output_does_not_stop_run_all(clean_kernel):
    notebook = run(small(
        "import os\nos.environ['LIGHTVIT_CHECK_SECONDS'] = '1'\nfrom lightvit_lab.exercises import check",
        "def patchify(images, patch_size):\n    while True:\n        print('flood')\n"
        "check('vision_transformer.patchify', patchify)",
        "print('still here')"), clean_kernel)
    said = text_of(notebook.cells[-2])
    assert "did not end within 1 s" in said and "characters are not shown" in said and len(said) < 3000
    assert statuses(notebook) == {"vision_transformer.patchify": "error"}
    assert text_of(notebook.cells[-1]).strip() == "still here"
