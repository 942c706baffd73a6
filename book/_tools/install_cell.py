"""The first code cell of every derived notebook: install what is missing, and nothing else.

The functions below are copied into the cell as they stand here, so what the tests try is what a
reader runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import pathlib
import re
import subprocess
import sys


def in_colab() -> bool:
    """Whether this kernel runs in Colab."""
    try:
        return "COLAB_RELEASE_TAG" in os.environ or importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:      # there is not even a package `google`
        return False


def commands(installed: dict[str, str], repository: str, ref: str,
             colab: bool = False) -> list[list[str]]:
    """What pip is asked to add to `installed`; nothing that could bring another torch, torchvision
    or numpy.
    """
    free = """plotly ipywidgets safetensors tqdm pyyaml huggingface-hub joblib threadpoolctl narwhals packaging pillow
        cycler fonttools kiwisolver pyparsing python-dateutil""".split()
    # these depend on torch or numpy
    alone = "timm captum scikit-learn scipy matplotlib contourpy".split()
    groups = [([], free), (["--no-deps"], alone)]
    missing = [(flags, [name for name in names if name not in installed]) for flags, names in groups]
    if "lightvit-lab" not in installed:
        missing.append((["--no-deps"], [f"git+{repository}@{ref}"]))
    # Colab draws no boxes of ipywidgets 8
    ask = {"ipywidgets": "ipywidgets<8"} if colab else {}
    return [["install", "-q", *flags, *(ask.get(name, name) for name in names)] for flags, names in missing if names]


def too_old(installed: dict[str, str], least: dict[str, str]) -> list[str]:
    """Names of the packages that are there but older than this page needs."""
    def release(version: str) -> list[int]:
        numbers = [int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part]
        return (numbers + 4 * [0])[:4]
    return [name for name, bound in least.items() if name in installed and release(installed[name]) < release(bound)]


def remedy(old: list[str], installed: dict[str, str], least: dict[str, str], colab: bool) -> str:
    """What is too old, and what mends it: a command, or in Colab, which brings torch and
    ipywidgets, a new runtime.
    """
    what = "Too old for this page: " + ", ".join(f"{name} {installed[name]}, needs {least[name]}" for name in old)
    if colab and {"torch", "ipywidgets"} & {*old}:
        return (f"{what}. Choose Runtime > Change runtime type > Runtime version > Latest, then Runtime > Disconnect "
                "and delete runtime, and run this cell again.")
    alone = {"timm", "captum"} & {*old}       # these would bring a torch or a numpy of their own
    groups = [("", [name for name in old if name not in alone]), ("--no-deps ", [name for name in old if name in alone])]
    calls = [f"`pip install -U {flag}" + " ".join(f'"{name}>={least[name]}"' for name in names)
             + (" torchvision`" if "torch" in names else "`") for flag, names in groups if names]
    return f"{what}. Run {' and '.join(calls)}, restart the kernel, then run this cell again."


def fingerprint(files: dict[str, bytes]) -> str:
    """A short number for code, given as path -> content; the same on every system."""
    lines = [path.encode() + b"\0" + files[path].replace(b"\r\n", b"\n") for path in sorted(files)]
    return hashlib.sha256(b"\0".join(lines)).hexdigest()[:16]


def library() -> dict[str, bytes]:
    """Path -> content of the code that `import lightvit_lab` runs here."""
    found = importlib.util.find_spec("lightvit_lab")
    root = pathlib.Path(found.origin).parent if found and found.origin else pathlib.Path("no library")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")}


def checkout(ref: str) -> str:
    """The commit of the checkout in which notebook and library lie; nothing unless `ref` is in its
    past, code unchanged.
    """
    found = importlib.util.find_spec("lightvit_lab")
    folder = pathlib.Path(found.origin).resolve().parent if found and found.origin else pathlib.Path("no library")
    def git(*words):
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    try:
        if (not pathlib.Path.cwd().is_relative_to(folder.parent / "chapters") or git("status", "--porcelain", ".").stdout
                or git("merge-base", "--is-ancestor", ref, "HEAD").returncode):
            return ""
        return git("rev-parse", "HEAD").stdout.strip()
    except OSError:
        return ""


def install(repository: str, ref: str, least: dict[str, str], code: str = "") -> None:
    """Add what is missing to this kernel, or say in one sentence what stands in the way."""
    installed = {re.sub("[-_.]+", "-", each.metadata["Name"] or "").lower(): each.version
                 # of two copies the first counts
                 for each in reversed(list(importlib.metadata.distributions()))}
    if not {"torch", "torchvision"} <= installed.keys():
        raise RuntimeError("Install torch and torchvision as https://pytorch.org says, then run this again.")
    if old := too_old(installed, least):
        raise RuntimeError(remedy(old, installed, least, in_colab()))
    for call in (calls := commands(installed, repository, ref, in_colab())):
        if subprocess.run([sys.executable, "-m", "pip", *call]).returncode:
            instead = " No other revision is run in its place." if call[-1].startswith("git+") else ""
            raise RuntimeError(f"pip {' '.join(call)} failed; its message above says why.{instead}")
    importlib.invalidate_caches()
    if code and code != fingerprint(library()):
        if not (newer := checkout(ref)):
            raise RuntimeError(
                f"The lightvit_lab installed here is not revision {ref[:9]}, for which this page was written. "
                f"Run `pip install --no-deps --force-reinstall git+{repository}@{ref}`, restart the kernel, then run "
                "this cell again. To go on with a copy that you changed yourself, skip this cell.")
        print(f"The library of this checkout runs, commit {newer[:9]}; the page was written for {ref[:9]} in its past.")
    print("Installed what was missing." if calls else "Everything this page needs is installed.")
    if in_colab():
        print("Colab forgets with the runtime which exercises you have solved. To keep that in your Drive, run this now: "
              "import os; from google.colab import drive; drive.mount('/content/drive'); "
              "os.environ['LIGHTVIT_CACHE'] = '/content/drive/MyDrive/lightvit_lab'")


CELL = (in_colab, commands, too_old, remedy, fingerprint, library, checkout, install)


def source(repository: str, ref: str, least: dict[str, str], code: str = "") -> str:
    """Source of the cell for a notebook pinned to commit `ref`.

    `least` holds the lowest version of each package; `code` is the fingerprint of the library's
    code at `ref`, and empty where nobody knows it: then whatever copy is installed already is taken
    for the right one.
    """
    functions = "\n\n".join(inspect.getsource(function).rstrip() for function in CELL)
    return ('# @title Set up: run this cell first { display-mode: "form" }\n'
            "import hashlib, importlib.metadata, importlib.util, os, pathlib, re, subprocess, sys\n\n"
            f"{functions}\n\ninstall({repository!r}, {ref!r}, {least!r}{f', {code!r}' if code else ''})")
