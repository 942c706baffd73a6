"""Run all code cells of one page on the device that LIGHTVIT_DEVICE names, and say what failed, as JSON on the last line.

    python tests/devices/run_page.py chapters/dynamic/early_exit.md

Trainings are cut to two steps, timings to two rounds, pretrained weights are drawn, compiling does nothing and the network
is refused: what is tried is that every call finds its tensors on one device, and leaves the page's on the processor.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[1]):
    sys.path.insert(0, str(folder))
STEPS, ROUNDS, LARGEST = 2, 2, 2      # of a training; of a timing; pictures in the largest batch that is tried


def main(page: Path) -> dict[str, Any]:
    """`{"failures": [[line, error], ...], "cells": number, "seconds": ..., "operators": on the device, "slowest": ...}`."""
    import second_device
    import torch
    from given_back import faults

    on_device = os.environ.get("LIGHTVIT_DEVICE") == "lab"
    lab = second_device.load() if on_device else None
    torch.set_num_threads(1)
    shorten()
    refuse_network()
    shell, failures, slowest, cells, known = interpreter(), [], [], cells_of(page), set()
    for line, source in cells:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = shell.run_cell(source)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            failures.append([line, where(error)])
        left = [fault for fault in faults(shell.user_ns) if fault not in known]      # each is said once
        failures += [[line, f"left behind: {fault}"] for fault in left]
        known.update(left)
        slowest.append((round(time.perf_counter() - start, 1), line))
    return {"failures": failures, "cells": len(cells), "operators": lab.operators() if lab else 0,
            "slowest": sorted(slowest, reverse=True)[:3]}


def cells_of(page: Path) -> list[tuple[int, str]]:
    """Line in the page and text of every code cell, those for the reader's own machine too."""
    from jupytext.myst import myst_to_notebook

    notebook = myst_to_notebook(page.read_text(encoding="utf-8"), add_source_map=True)
    return [(line + 1, cell.source) for cell, line in zip(notebook.cells, notebook.metadata["source_map"])
            if cell.cell_type == "code"]


def interpreter() -> Any:
    """IPython without a terminal: cells display what they would on a page."""
    import plotly.io
    from IPython.core.interactiveshell import InteractiveShell

    plotly.io.renderers.default = "json"
    shell = InteractiveShell.instance()
    shell.showtraceback = lambda *arguments, **options: None
    return shell


def where(error: BaseException) -> str:
    """The error in one line, and the innermost line of the library, or of the page, that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    library = [frame for frame in frames if "lightvit_lab" in frame.filename]
    place = library[-1] if library else frames[-1]
    text = re.sub(r"\s+", " ", str(error))[:300]
    return f"{type(error).__name__}: {text} [{'/'.join(Path(place.filename).parts[-3:])}:{place.lineno}]"


def shorten() -> None:
    """Cut what takes long and says nothing about devices. A name that is gone raises here: then mend this list."""
    import torch

    replace("training.loop", "Settings", fewer_steps)
    for name, value in (("WARM_UP", 1), ("LEAST_ROUNDS", ROUNDS), ("PRECISE", float("inf"))):
        replace("profiling.timing", name, lambda _, value=value: value)
    replace("profiling.roofline", "_WARM_UP", lambda _: 0)
    replace("profiling.roofline", "_times", lambda times: lambda model, inputs, _: times(model, inputs, ROUNDS))
    replace("profiling.batches", "_search", lambda search: lambda speed, _, *rest: search(speed, LARGEST, *rest))
    replace("profiling.peaks", "_least_seconds", lambda least: lambda call, _: least(call, 0.0))
    replace("profiling.peaks", "_SIZES", lambda sizes: dict.fromkeys(sizes, (64,)))
    replace("profiling.peaks", "_COPIED", lambda copied: dict.fromkeys(copied, 2**20))
    replace("models", "timm.create_model", drawn_weights)
    torch.compile = lambda model=None, **options: model if model is not None else lambda function: function
    torch.nn.Module.compile = lambda module, *arguments, **options: None


def fewer_steps(settings: type) -> Callable[..., Any]:
    """`Settings` of a training that ends after STEPS steps."""
    return lambda steps, *rest, **named: settings(min(steps, STEPS), *rest, **named)


def drawn_weights(create: Callable[..., Any]) -> Callable[..., Any]:
    """timm's `create_model`, without a download: drawn weights in place of pretrained ones, in a narrow model."""
    def drawn(name: str, pretrained: bool = False, **named: Any) -> Any:
        return create(name, **({"embed_dim": 96} if pretrained and name.startswith("deit_") else {}), **named)
    return drawn


def replace(room: str, name: str, change: Callable[[Any], Any]) -> None:
    """Put `change(value)` in the place of a name of a room of the library."""
    *owners, name = name.split(".")
    owner = importlib.import_module(f"lightvit_lab.{room}")
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, change(getattr(owner, name)))


def refuse_network() -> None:
    """No cell fetches anything."""
    import socket

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("this page reached for the network")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse


if __name__ == "__main__":
    began = time.perf_counter()
    found = main(Path(sys.argv[1]).resolve())
    print(json.dumps({**found, "seconds": round(time.perf_counter() - began, 1)}))
