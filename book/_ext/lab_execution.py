"""Run pages two at a time before Sphinx reads them; every solution must pass its check.

A cell that measures time runs alone. myst-nb then finds the pages' outputs in the execution cache.
A page that fails is not stored there, so that myst-nb runs it again and reports it as it always
does.
"""

from __future__ import annotations

import ast
import copy
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)

AT_ONCE = 2
# what measures time, by the names that pages call; `seconds` is a field of a training's History
TIMERS = {"measure", "best_batch", "roofline", "machine_card", "machine_peaks", "perf_counter",
          "seconds"}
FAILED = re.compile(r"^\[(not started|wrong|error)\] \S+:.*", re.MULTILINE)


class Turns:
    """Any number of cells at a time, or one that must be alone; later ones wait for it."""

    def __init__(self) -> None:
        self.door, self.exited, self.inside = threading.Lock(), threading.Condition(), 0

    def enter(self, alone: bool) -> None:
        """Wait until the cell may run."""
        self.door.acquire()                     # held by a cell that is alone, or waits to be
        with self.exited:
            if alone:
                self.exited.wait_for(lambda: self.inside == 0)
            self.inside += 1
        if not alone:
            self.door.release()

    def leave(self, alone: bool) -> None:
        """The cell has ended."""
        with self.exited:
            self.inside -= 1
            self.exited.notify_all()
        if alone:
            self.door.release()


class TurnHooks:
    """nbclient's hooks for one page: each of its cells waits for its turn and gives it back."""

    def __init__(self, turns: Turns, alone: set[int]):
        self.turns, self.alone, self.running = turns, alone, None

    def start(self, cell: NotebookNode, cell_index: int) -> None:
        """Before the kernel gets a cell."""
        self.turns.enter(cell_index in self.alone)
        self.running = cell_index

    def end(self, **reply: Any) -> None:
        """After the kernel's answer; also at the page's end, for a cell that got none."""
        if self.running is not None:
            self.turns.leave(self.running in self.alone)
        self.running = None


def timing_cells(cells: Iterable[NotebookNode]) -> set[int]:
    """Indices of the cells that call something in TIMERS, or a function of the page that does."""
    found, timers = set(), set(TIMERS)
    for index, cell in enumerate(cells):
        tree = _parsed(cell.source) if cell.cell_type == "code" else ast.Module([], [])
        timers |= {node.name for node in ast.walk(tree)
                   if isinstance(node, ast.FunctionDef) and _names(node) & timers}
        if _names(tree) & timers:
            found.add(index)
    return found


def _parsed(source: str) -> ast.AST:
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


def _names(tree: ast.AST) -> set[str]:
    return {getattr(node, "id", None) or getattr(node, "attr", "") for node in ast.walk(tree)
            if isinstance(node, (ast.Name, ast.Attribute))}


def run(path: Path, notebook: NotebookNode, turns: Turns, timeout: int) -> ExecutionResult:
    """Execute `notebook`, which gets its outputs, in the folder of its page."""
    hooks = TurnHooks(turns, timing_cells(notebook.cells))
    try:
        return single_nb_execution(notebook, str(path.parent), timeout, allow_errors=False,
                                   on_cell_execute=hooks.start, on_cell_executed=hooks.end)
    finally:
        hooks.end()


def execute(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run the pages to be read whose outputs the cache lacks, the longest first."""
    if app.config.nb_execution_mode != "cache":
        return
    cache, pages = get_cache(app.config.nb_execution_cache_path), dict(_notebooks(env, docnames))
    missing = sorted((path for path, notebook in pages.items() if not _cached(cache, notebook)),
                     key=lambda path: -path.stat().st_size)
    turns, timeout = Turns(), app.config.nb_execution_timeout
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {pool.submit(run, path, copy.deepcopy(pages[path]), turns, timeout): path
                for path in missing}
        for future in as_completed(runs):
            _store(cache, runs[future], future.result())
    for path, notebook in pages.items():
        for verdict in _failed_checks(_cached(cache, notebook)):
            logger.warning("%s: a solution does not pass: %s", path, verdict)


def _notebooks(env: Any, docnames: list[str]) -> Iterator[tuple[Path, NotebookNode]]:
    """Those of the documents that hold cells, as myst-nb reads them."""
    for path in map(Path, map(env.doc2path, docnames)):
        text = path.read_text(encoding="utf-8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
        if reader is not None:
            yield path, reader.read(text)


def _cached(cache: JupyterCacheAbstract, notebook: NotebookNode) -> NotebookNode | None:
    """The notebook with the outputs that the cache has of it."""
    try:
        return cache.merge_match_into_notebook(notebook)[1]
    except KeyError:
        return None


def _store(cache: JupyterCacheAbstract, path: Path, result: ExecutionResult) -> None:
    if result.err is not None:
        logger.warning("%s failed: %s", path, result.exc_string)
        return
    logger.info("%s ran in %.0f s", path, result.time)
    bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def _failed_checks(notebook: NotebookNode | None) -> list[str]:
    """The messages of the page's checks that did not pass."""
    failed: list[str] = []
    for cell in notebook.cells if notebook else ():
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            failed += [verdict[0] for verdict in FAILED.finditer(text)]
    return failed


def setup(app: Sphinx) -> dict[str, Any]:
    """Run the pages before they are read; called by `lightvit_book`."""
    app.connect("env-before-read-docs", execute)
    return {}
