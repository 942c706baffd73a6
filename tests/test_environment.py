"""environment.yml, constraints.txt and the Makefile against pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_conda_asks_for_the_lower_bounds_of_pyproject():
    conda = {_name(entry): entry for entry in CONDA["dependencies"] if isinstance(entry, str)}
    assert conda["python"].endswith(PROJECT["project"]["requires-python"] + ",<3.14")
    torch = next(entry for entry in PROJECT["project"]["dependencies"] if _name(entry) == "torch")
    assert conda["pytorch"].replace("pytorch ", "torch") == torch
    assert "torchvision" in conda, "without conda's own torchvision pip would bring one built for another torch"


def test_conda_installs_every_extra_by_pip_but_the_teachers_and_nothing_that_conda_brings():
    pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    extras = ",".join(name for name in EXTRAS if name != "classroom")
    assert pip == [f"-e .[{extras}]", "-e book/grader"]


def test_core_is_what_the_readme_promises():
    assert [_name(entry) for entry in PROJECT["project"]["dependencies"]] == [
        "torch", "timm", "captum", "plotly", "ipywidgets", "safetensors", "pillow", "filelock", "tqdm"]


def test_every_direct_requirement_is_constrained_within_its_bounds():
    from packaging.requirements import Requirement

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {_name(name): version for name, version in pins.items()}
    wanted = [*PROJECT["project"]["dependencies"], *(entry for extra in EXTRAS.values() for entry in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name != PROJECT["project"]["name"]:
            assert requirement.specifier.contains(pins[_name(requirement.name)]), requirement


def test_the_minimum_is_exactly_the_lower_bounds_of_pyproject():
    from packaging.requirements import Requirement
    from packaging.version import Version

    lines = (ROOT / "tests" / "minimum.txt").read_text(encoding="utf-8").splitlines()
    pins = {_name(line): Version(line.partition("==")[2]) for line in lines if line and not line.startswith("#")}
    bounds = {}
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        (only,) = requirement.specifier
        assert only.operator == ">="
        bounds[_name(requirement.name)] = Version(only.version)
    assert pins.pop("torchvision").minor == bounds["torch"].minor + 15      # 0.20 goes with 2.5
    assert pins == bounds


def test_every_way_to_install_the_book_brings_the_grader_which_has_the_version_of_the_library():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    calls = [line for text in (makefile, (ROOT / "README.md").read_text(encoding="utf-8"))
             for line in text.splitlines() if re.search(r'install .*-e "\.\[', line)]
    assert len(calls) == 2 and all(line.endswith(" -e book/grader") for line in calls)
    grader = tomllib.loads((ROOT / "book" / "grader" / "pyproject.toml").read_text())
    assert grader["project"]["version"] == PROJECT["project"]["version"]
    assert grader["project"]["requires-python"] == PROJECT["project"]["requires-python"]
    (package,) = grader["tool"]["setuptools"]["packages"]
    assert (ROOT / "book" / "grader" / package / "grading.py").is_file()


def test_version_is_the_same_in_package_and_pyproject():
    import lightvit_lab

    assert lightvit_lab.__version__ == PROJECT["project"]["version"]


def test_the_repository_is_named_in_pyproject_alone():
    address = PROJECT["project"]["urls"]["Repository"].removeprefix("https://")
    texts = [path for pattern in ("*.md", "*.yml", "*.cff", "Makefile", "book/**/*.md", "book/**/*.py", "chapters/**/*.md",
                                  "lightvit_lab/**/*.py", ".github/**/*.yml") for path in ROOT.glob(pattern)]
    assert [path for path in texts if address in path.read_text(encoding="utf-8")] == []
