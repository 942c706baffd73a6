"""The wheel that every reader installs, built from a copy of this checkout."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("setuptools", minversion="70.1", reason="builds a wheel without a download")
ROOT = Path(__file__).resolve().parents[1]
MOST_MB = 25


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of `lightvit-lab`, built outside the checkout, so that no folder is left behind."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("lightvit_lab", "book/results", "book/zoo", "book/grader"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "dist" / done.stdout.split()[-1]


def test_the_wheel_holds_all_of_the_library_and_nothing_of_the_grader(wheel):
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lightvit_lab").rglob("*.py")}
    with ZipFile(wheel) as packed:
        modules = {name for name in packed.namelist() if name.endswith(".py")}
        assert modules == library
        code = "".join(packed.read(name).decode() for name in modules).lower()
    assert "landlock" not in code and "unshare" not in code     # the grader's walls


def test_the_wheel_is_small_enough_to_be_installed_at_the_start_of_a_notebook(wheel):
    assert wheel.stat().st_size < MOST_MB * 1e6
