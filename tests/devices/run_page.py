"""Run a page's code cells on LIGHTVIT_DEVICE, and say on the last line, as JSON, what failed.

    LIGHTVIT_DEVICE=lab python tests/devices/run_page.py chapters/dynamic/early_exit.md

Trainings are cut to two steps, timings to two rounds, sets to 72 pictures, of one page to 300;
pretrained weights are drawn, compiling does nothing and the network is refused: what is tried is that every call finds its
tensors on one device, and leaves the page's on the processor.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
IMPORTS = ("torch", "lightvit_lab.models", "captum.attr", "plotly.graph_objects", "ipywidgets", "IPython",
           "sklearn.datasets")      # what takes seconds, for whoever forks processes
for folder in (HERE, HERE.parents[1]):
    sys.path.insert(0, str(folder))


def main(page: Path) -> dict[str, Any]:
    """`failures` [[line, error], ...], `cells`, `operators` on the device, `slowest` cells."""
    import second_device
    import torch
    from given_back import faults
    from shorten import for_pages, shorten

    on_device = os.environ.get("LIGHTVIT_DEVICE") == "lab"
    lab = second_device.load() if on_device else None
    torch.set_num_threads(1)
    shorten()
    for_pages(page.stem)
    refuse_network()
    shell, failures, slowest, cells, known = interpreter(), [], [], cells_of(page), set()
    for line, source in cells:
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = shell.run_cell(source)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            failures.append([line, where(error)])
        # Searched is what the cell names; after the last cell, everything that is there.
        named = shell.user_ns if line == cells[-1][0] else named_in(source, shell.user_ns)
        left = [fault for fault in faults(named) if fault not in known]  # each is said once
        failures += [[line, f"left behind: {fault}"] for fault in left]
        known.update(left)
        slowest.append((round(time.process_time() - start, 1), line))
    return {
        "failures": failures,
        "cells": len(cells),
        "operators": lab.operators() if lab else 0,
        "slowest": sorted(slowest, reverse=True)[:3],
    }


def alone(page: Path, folder: Path) -> dict[str, Any]:
    """`main(page)` and what it took, in an empty folder and without the settings of the shell."""
    folder.mkdir()
    os.chdir(folder)
    for name in [*os.environ]:
        if name.startswith("LIGHTVIT_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update({
        "LIGHTVIT_DEVICE": "lab",
        "LIGHTVIT_BOOK": "1",
        "LIGHTVIT_PROGRESS": "0",
        "HF_HUB_OFFLINE": "1",
        "LIGHTVIT_CACHE": str(folder / "cache"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
    })
    return timed(page)


def timed(page: Path) -> dict[str, Any]:
    """`main(page)`, with its seconds."""
    began = time.perf_counter()
    found = main(page)
    return {**found, "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time()}


def cells_of(page: Path) -> list[tuple[int, str]]:
    """Line in the page and text of every code cell, those for the reader's own machine too."""
    from jupytext.myst import myst_to_notebook

    notebook = myst_to_notebook(page.read_text(encoding="utf-8"), add_source_map=True)
    return [
        (line + 1, cell.source)
        for cell, line in zip(notebook.cells, notebook.metadata["source_map"])
        if cell.cell_type == "code"
    ]


def named_in(source: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """The variables of `namespace` whose names stand in `source`."""
    names = set(re.findall(r"\w+", source))
    return {name: value for name, value in namespace.items() if name in names}


def interpreter() -> Any:
    """IPython without a terminal: cells display what they would on a page."""
    import plotly.io
    from IPython.core.interactiveshell import InteractiveShell

    plotly.io.renderers.default = "json"
    shell = InteractiveShell.instance()
    shell.showtraceback = lambda *arguments, **options: None
    return shell


def where(error: BaseException) -> str:
    """The error in one line, and the innermost line of the library, or of the page, it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    library = [frame for frame in frames if "lightvit_lab" in frame.filename]
    place = library[-1] if library else frames[-1]
    text = re.sub(r"\s+", " ", str(error))[:300]
    file = "/".join(Path(place.filename).parts[-3:])
    return f"{type(error).__name__}: {text} [{file}:{place.lineno}]"


def refuse_network() -> None:
    """No cell fetches anything."""
    import socket

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("this page reached for the network")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse


if __name__ == "__main__":
    print(json.dumps(timed(Path(sys.argv[1]).resolve())))
