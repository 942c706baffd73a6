"""The first code cell of every derived notebook: install what is missing, and nothing else.

The functions below are copied into the cell as they stand here, so what the tests try is what a reader runs.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys


def commands(installed: dict[str, str], repository: str, ref: str) -> list[list[str]]:
    """What pip is asked to add to `installed`; nothing that could bring another torch, torchvision or numpy."""
    free = """plotly ipywidgets safetensors tqdm pyyaml huggingface-hub joblib threadpoolctl narwhals packaging pillow
        cycler fonttools kiwisolver pyparsing python-dateutil""".split()
    alone = "timm captum scikit-learn scipy matplotlib contourpy".split()   # these depend on torch or numpy
    groups = [([], free), (["--no-deps"], alone)]
    missing = [(flags, [name for name in names if name not in installed]) for flags, names in groups]
    if "lightvit-lab" not in installed:
        missing.append((["--no-deps"], [f"git+{repository}@{ref}"]))
    return [["install", "-q", *flags, *names] for flags, names in missing if names]


def too_old(installed: dict[str, str], least: dict[str, str]) -> list[str]:
    """Packages that are there but older than this page needs, each as "name version to version"."""
    have = {name: [[int(part) for part in re.findall(r"\d+", version)[:3]] for version in (installed[name], bound)]
            for name, bound in least.items() if name in installed}
    return [f"{name} {installed[name]} to {least[name]}" for name, (version, bound) in have.items() if version < bound]


def install(repository: str, ref: str, least: dict[str, str]) -> None:
    """Add what is missing to this kernel, or say in one sentence what stands in the way."""
    installed = {re.sub("[-_.]+", "-", each.metadata["Name"] or "").lower(): each.version
                 for each in reversed(list(importlib.metadata.distributions()))}   # of two copies the first counts
    if not {"torch", "torchvision"} <= installed.keys():
        raise RuntimeError("Install torch and torchvision as https://pytorch.org says, then run this again.")
    if old := too_old(installed, least):
        raise RuntimeError(f"Update {', '.join(old)}, restart the kernel, then run this again.")
    for call in (calls := commands(installed, repository, ref)):
        if subprocess.run([sys.executable, "-m", "pip", *call]).returncode == 0:
            continue
        newest = [*call[:-1], f"git+{repository}@main"]
        if not call[-1].startswith("git+") or subprocess.run([sys.executable, "-m", "pip", *newest]).returncode:
            raise RuntimeError(f"pip {' '.join(call)} failed; its message above says why.")
        print(f"Warning: commit {ref[:9]} could not be fetched; the newest version is used and may not fit this page.")
    importlib.invalidate_caches()
    print("Installed what was missing." if calls else "Everything this page needs is installed.")


def source(repository: str, ref: str, least: dict[str, str]) -> str:
    """Source of the cell for a notebook pinned to commit `ref`; `least` holds the lowest version of each package."""
    functions = "\n\n".join(inspect.getsource(function).rstrip() for function in (commands, too_old, install))
    return ('# @title Set up: run this cell first { display-mode: "form" }\n'
            "import importlib.metadata, re, subprocess, sys\n\n"
            f"{functions}\n\ninstall({repository!r}, {ref!r}, {least!r})")
