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
    if "COLAB_RELEASE_TAG" in os.environ:
        return True
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:      # there is not even a package `google`
        return False


def commands(installed: dict[str, str], repository: str, ref: str,
             colab: bool = False) -> list[list[str]]:
    """What pip is to add to `installed`; nothing that brings another torch, torchvision, numpy."""
    free = """plotly ipywidgets safetensors tqdm pyyaml huggingface-hub joblib threadpoolctl
        narwhals packaging pillow cycler fonttools kiwisolver pyparsing python-dateutil""".split()
    # these depend on torch or numpy
    alone = "timm captum scikit-learn scipy matplotlib contourpy".split()
    calls = []
    for flags, names in (([], free), (["--no-deps"], alone)):
        missing = [name for name in names if name not in installed]
        if colab:                    # Colab draws no boxes of ipywidgets 8
            missing = [name.replace("ipywidgets", "ipywidgets<8") for name in missing]
        if missing:
            calls.append(["install", "-q", *flags, *missing])
    if "lightvit-lab" not in installed:
        calls.append(["install", "-q", "--no-deps", f"git+{repository}@{ref}"])
    return calls


def too_old(installed: dict[str, str], least: dict[str, str]) -> list[str]:
    """Names of the packages that are there but older than this page needs."""
    def release(version: str) -> list[int]:
        numbers = [int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part]
        return (numbers + 4 * [0])[:4]
    return [name for name, bound in least.items()
            if name in installed and release(installed[name]) < release(bound)]


def remedy(old: list[str], installed: dict[str, str], least: dict[str, str], colab: bool) -> str:
    """What is too old, and what mends it: pip's commands, or in Colab a new runtime."""
    needs = [f"{name} {installed[name]}, needs {least[name]}" for name in old]
    text = "Too old for this page: " + ", ".join(needs)
    if colab and {"torch", "ipywidgets"} & {*old}:       # which Colab brings
        return (f"{text}. Choose Runtime > Change runtime type > Runtime version > Latest, then "
                "Runtime > Disconnect and delete runtime, and run this cell again.")
    free = [name for name in old if name not in ("timm", "captum")]
    alone = [name for name in old if name not in free]   # would bring a torch or numpy of their own
    calls = []
    for flag, names in (("", free), ("--no-deps ", alone)):
        bounds = [f'"{name}>={least[name]}"' for name in names]
        bounds += ["torchvision"] if "torch" in names else []
        if bounds:
            calls.append(f"`pip install -U {flag}{' '.join(bounds)}`")
    return f"{text}. Run {' and '.join(calls)}, restart the kernel, then run this cell again."


def fingerprint(files: dict[str, bytes]) -> str:
    """A short number for code, given as path -> content; the same on every system."""
    lines = [path.encode() + b"\0" + files[path].replace(b"\r\n", b"\n") for path in sorted(files)]
    return hashlib.sha256(b"\0".join(lines)).hexdigest()[:16]


def library() -> dict[str, bytes]:
    """Path -> content of the code that `import lightvit_lab` runs here."""
    spec = importlib.util.find_spec("lightvit_lab")
    root = pathlib.Path(spec.origin if spec and spec.origin else "no library/file").parent
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")}


def checkout(ref: str) -> str:
    """The commit of this checkout; nothing unless `ref` is in its past, its code unchanged."""
    spec = importlib.util.find_spec("lightvit_lab")
    file = pathlib.Path(spec.origin if spec and spec.origin else "no library/file")
    folder = file.resolve().parent
    def git(*words):
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    try:
        if not pathlib.Path.cwd().is_relative_to(folder.parent / "chapters"):
            return ""
        changed = git("status", "--porcelain", ".").stdout
        if changed or git("merge-base", "--is-ancestor", ref, "HEAD").returncode:
            return ""
        return git("rev-parse", "HEAD").stdout.strip()
    except OSError:
        return ""


def install(repository: str, ref: str, least: dict[str, str], code: str = "") -> None:
    """Add what is missing to this kernel, or say in one sentence what stands in the way."""
    installed = {}
    for each in importlib.metadata.distributions():
        name = re.sub("[-_.]+", "-", each.metadata["Name"] or "").lower()
        installed.setdefault(name, each.version)         # of two copies the first counts
    if not {"torch", "torchvision"} <= installed.keys():
        raise RuntimeError("Install torch and torchvision as https://pytorch.org says, "
                           "then run this again.")
    if old := too_old(installed, least):
        raise RuntimeError(remedy(old, installed, least, in_colab()))
    calls = commands(installed, repository, ref, in_colab())
    for call in calls:
        if subprocess.run([sys.executable, "-m", "pip", *call]).returncode:
            text = f"pip {' '.join(call)} failed; its message above says why."
            if call[-1].startswith("git+"):
                text += " No other revision is run in its place."
            raise RuntimeError(text)
    importlib.invalidate_caches()
    if code and code != fingerprint(library()):
        newer = checkout(ref)
        if not newer:
            raise RuntimeError(
                f"The lightvit_lab installed here is not revision {ref[:9]}, for which this page "
                "was written. Run `pip install --no-deps --force-reinstall "
                f"git+{repository}@{ref}`, restart the kernel, then run this cell again. To go on "
                "with a copy that you changed yourself, skip this cell.")
        print(f"The library of this checkout runs, commit {newer[:9]}; the page was written for "
              f"{ref[:9]} in its past.")
    print("Installed what was missing." if calls else "Everything this page needs is installed.")
    if in_colab():
        print("Colab forgets with the runtime which exercises you have solved. "
              "To keep that in your Drive, run this now: import os; "
              "from google.colab import drive; drive.mount('/content/drive'); "
              "os.environ['LIGHTVIT_CACHE'] = '/content/drive/MyDrive/lightvit_lab'")


CELL = (in_colab, commands, too_old, remedy, fingerprint, library, checkout, install)


def source(repository: str, ref: str, least: dict[str, str], code: str = "") -> str:
    """Source of the cell for a notebook pinned to commit `ref`.

    `least` holds the lowest version of each package; `code` is the fingerprint of the library's
    code at `ref`, and empty where nobody knows it: then whatever copy is installed already is taken
    for the right one.
    """
    functions = "\n\n".join(inspect.getsource(function).rstrip() for function in CELL)
    last = f", {code!r}" if code else ""
    return ('# @title Set up: run this cell first { display-mode: "form" }\n'
            "import hashlib, importlib.metadata, importlib.util, os, pathlib, re, "
            "subprocess, sys\n\n"
            f"{functions}\n\ninstall({repository!r}, {ref!r}, {least!r}{last})")
