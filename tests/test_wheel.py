"""The wheel that every reader installs: complete, with nothing else in it, and small."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).resolve().parents[1]
DATA = {"book/results": "lightvit_lab/stored_results", "book/zoo": "lightvit_lab/stored_zoo"}
PACKED = (".py", ".json", ".csv", ".css", ".js", ".safetensors")
PAGES = len(list((ROOT / "chapters").glob("*/*.md")))
CAP = 1e6 * (13 + max(PAGES - 11, 0))  # bytes: 13 MB for the first eleven pages, 25 MB for all 23


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the tree."""
    root = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, root)
    for folder in ("lightvit_lab", *DATA, "book/grader"):  # the grader is a package of its own
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=root, check=True, capture_output=True)
    (found,) = (root / "dist").glob("*.whl")
    return found


def test_every_file_of_the_library_every_stored_run_and_the_whole_zoo_are_packed_and_nothing_else(
    wheel,
):
    folders = {"lightvit_lab": "lightvit_lab", **DATA}
    files = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in PACKED and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert names == files and len(files) > 200


def test_the_wheel_is_no_larger_than_its_pages_allow(wheel):
    assert 3e6 < wheel.stat().st_size <= CAP


def test_the_zoo_is_no_larger_than_its_pages_allow():
    assert 3e6 < sum(path.stat().st_size for path in (ROOT / "book/zoo").iterdir()) <= CAP
