"""Colab's committed lists of packages: the first cell accepts them, and a changed list is reported."""

import re
import shutil
import tomllib
from pathlib import Path

import colab_lists
import pytest
from install_cell import commands, too_old
from notebooks import lowest_versions

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY, REF = "https://github.com/owner/lab", "0123456789abcdef"
LISTS = pytest.mark.parametrize("name", colab_lists.LISTS)


@LISTS
def test_each_list_names_its_commit_and_date_and_is_whole(name):
    first, *lines = (colab_lists.FOLDER / name).read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"# .*{re.escape(name)} .*googlecolab/backend-info .*[0-9a-f]{{40}} of \d{{4}}-\d\d-\d\d\.", first)
    entries = [line for line in lines if line and not line.startswith("#")]
    assert len(entries) > 600 and len(colab_lists.committed(name)) == len(entries)


@LISTS
def test_first_cell_finds_nothing_too_old_in_colab_and_judges_every_bound(name):
    installed, least = colab_lists.committed(name), lowest_versions(PROJECT)
    assert too_old(installed, least) == []
    assert least.keys() - installed.keys() == {"captum"}, "a bound on what Colab lacks is judged by nobody"
    assert too_old(installed, {package: "99" for package in least}) == [package for package in least if package != "captum"]


@LISTS
def test_first_cell_asks_colab_only_for_captum_and_the_project(name):
    assert commands(colab_lists.committed(name), REPOSITORY, REF, colab=True) == [
        ["install", "-q", "--no-deps", "captum"], ["install", "-q", "--no-deps", f"git+{REPOSITORY}@{REF}"]]


def test_versions_are_read_from_every_form_that_pip_freeze_prints():
    text = """# comment
PyYAML==6.0.2
torch @ https://download.pytorch.org/whl/cpu/torch-2.11.0%2Bcpu-cp313-cp313-manylinux_2_28_x86_64.whl
google-colab @ file:///colabtools/dist/google_colab-1.0.0.tar.gz
kernel_gateway @ git+https://github.com/googlecolab/kernel_gateway@b134e99
"""
    assert colab_lists.versions(text) == {"pyyaml": "6.0.2", "torch": "2.11.0+cpu", "google-colab": "1.0.0",
                                          "kernel-gateway": "0"}


def test_needed_is_what_the_first_cell_looks_for_and_colab_has(capsys):
    assert colab_lists.main(["--needed"]) == 0
    names = set(capsys.readouterr().out.split())
    assert {"torch", "numpy", "timm", "plotly", "ipywidgets", "matplotlib", "narwhals"} <= names
    assert "captum" not in names and names <= colab_lists.committed("pip-freeze.txt").keys()
    missing = commands(dict.fromkeys(names, "1"), REPOSITORY, REF)
    assert missing == [["install", "-q", "--no-deps", "captum"], ["install", "-q", "--no-deps", f"git+{REPOSITORY}@{REF}"]]


def test_constraints_are_versions_that_pip_can_look_up():
    lines = colab_lists.constraints().splitlines()
    assert {"torch==2.11.0", "plotly==5.24.1", "ipywidgets==7.7.1", "timm==1.0.28"} <= {*lines}
    assert all(re.fullmatch(r"[a-z0-9-]+==\d[\w.]*", line) for line in lines)
    assert not [line for line in lines if line.startswith(("nvidia-", "google-colab="))]


@pytest.fixture
def published(tmp_path):
    """A folder of lists as Google publishes them, and its address."""
    for name in colab_lists.LISTS:
        shutil.copy(colab_lists.FOLDER / name, tmp_path)
    return tmp_path


def test_lists_that_are_as_committed_are_no_news(published, capsys):
    assert colab_lists.main(["--changed", "--source", published.as_uri()]) == 0
    assert capsys.readouterr().out == "pip-freeze.txt: as committed\npip-freeze.gpu.txt: as committed\n"


def test_a_changed_list_is_reported_what_the_notebooks_need_first_and_nothing_is_written(published, capsys):
    before = [path.read_bytes() for path in sorted(colab_lists.FOLDER.iterdir())]
    changed = published / "pip-freeze.gpu.txt"
    text = changed.read_text(encoding="utf-8").replace("plotly==5.24.1", "plotly==6.9.0")
    changed.write_text(re.sub("(?m)^absl-py==.*\n", "", text) + "zzz==1.0\n", encoding="utf-8")
    assert colab_lists.main(["--changed", "--source", published.as_uri()]) == 1
    said = capsys.readouterr().out
    assert re.search(r"pip-freeze.gpu.txt: 3 packages differ\n  needed plotly: 5.24.1 -> 6.9.0\n  absl-py: \S+ -> absent\n"
                     r"  zzz: absent -> 1.0\n", said), said
    assert [path.read_bytes() for path in sorted(colab_lists.FOLDER.iterdir())] == before
