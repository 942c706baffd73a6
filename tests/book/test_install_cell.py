"""The install cell: adds what is missing, touches nothing that is there, and says in one sentence what it cannot do."""

import ast
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import install_cell
import pytest
from install_cell import commands, too_old

REPOSITORY, REF = "https://github.com/owner/lab", "0123456789abcdef"
NEVER = {"torch", "torchvision", "numpy"}
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BARE = {"torch": "2.9.0", "torchvision": "0.24.0", "numpy": "2.0.2", "pip": "25.0"}
# What a hosted notebook usually brings; captum and the library are not among it.
HOSTED = BARE | dict.fromkeys(
    "timm plotly ipywidgets safetensors tqdm scikit-learn scipy joblib threadpoolctl matplotlib contourpy cycler "
    "fonttools kiwisolver pillow pyparsing python-dateutil narwhals packaging pyyaml huggingface-hub".split(), "1")
COMPLETE = HOSTED | {"captum": "0.8.0", "lightvit-lab": "0.1.0"}
LIBRARY = ["install", "-q", "--no-deps", f"git+{REPOSITORY}@{REF}"]
SETS = [{}, BARE, HOSTED, COMPLETE, *({k: v for k, v in COMPLETE.items() if k != gone} for gone in COMPLETE),
        *(BARE | {name: "1"} for name in COMPLETE)]


def named(call: list[str]) -> list[str]:
    return [word for word in call[1:] if not word.startswith("-")]


@pytest.mark.parametrize("installed", SETS)
def test_no_command_names_what_is_installed_or_torch_or_numpy(installed):
    for call in commands(installed, REPOSITORY, REF):
        assert not {name.lower() for name in named(call)} & (NEVER | installed.keys())
        assert not {"-U", "--upgrade", "--force-reinstall", "--pre"} & set(call)


@pytest.mark.parametrize("installed", SETS)
def test_no_package_that_depends_on_torch_or_numpy_brings_its_own(installed):
    """Judged by the metadata of the packages installed here, followed to the end."""
    for call in commands(installed, REPOSITORY, REF):
        if "--no-deps" not in call:
            assert not NEVER & set().union(*(closure(name) for name in named(call)))


def closure(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The packages that installing `name` brings, extras left out; those unknown here count by name alone."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return {name}
    needed = {requirement.name.lower() for requirement in requirements
              if requirement.marker is None or requirement.marker.evaluate({"extra": ""})}
    return {name} | set().union(*(closure(each, seen | needed | {name}) for each in needed - seen))


def test_closure_of_the_tests_themselves_sees_torch_behind_timm():
    assert "torch" in closure("timm") and "numpy" in closure("scikit-learn")


def test_complete_environment_gets_no_command():
    assert commands(COMPLETE, REPOSITORY, REF) == []


def test_hosted_environment_gets_captum_and_the_library_alone():
    assert commands(HOSTED, REPOSITORY, REF) == [["install", "-q", "--no-deps", "captum"], LIBRARY]


@pytest.mark.parametrize("installed", [every for every in SETS if "lightvit-lab" not in every])
def test_library_comes_last_without_dependencies_at_its_commit(installed):
    assert commands(installed, REPOSITORY, REF)[-1] == LIBRARY


def test_bare_environment_gets_every_requirement_of_the_library():
    asked = {name for call in commands(BARE, REPOSITORY, REF) for name in named(call)}
    required = {requirement.split(">=")[0] for requirement in PROJECT["dependencies"]}
    required -= {"torch", "filelock"}   # torch brings filelock
    assert required | {"scikit-learn"} <= asked


def test_every_name_is_written_as_the_cell_looks_it_up():
    names = [name for call in commands({}, REPOSITORY, REF)[:-1] for name in named(call)]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and "_" not in name for name in names)


@pytest.mark.parametrize("version, bound, old", [
    ("2.3.1", "2.4", True), ("2.4.0", "2.4", False), ("2.13.0+cpu", "2.4", False), ("2.4.0a0+git1", "2.4", False),
    ("0.9.16", "1.0.20", True), ("1.0.3", "1.0.20", True), ("1.0.100", "1.0.20", False)])
def test_versions_are_compared_as_numbers(version, bound, old):
    assert bool(too_old({"timm": version}, {"timm": bound, "captum": "9"})) is old


def run_cell(monkeypatch, installed, pip, least=None):
    """Runs the cell's own source in an environment made up for it; `pip(call)` stands for pip and gives its status."""
    found = [SimpleNamespace(metadata={"Name": name}, version=version) for name, version in installed.items()]
    monkeypatch.setattr(metadata, "distributions", lambda: found)
    monkeypatch.setattr(subprocess, "run", lambda call, **options: SimpleNamespace(returncode=pip(call[3:])))
    exec(compile(install_cell.source(REPOSITORY, REF, least or {}), "<cell>", "exec"), {})


def no_pip(call):
    raise AssertionError(f"pip was started: {call}")


def test_cell_does_nothing_here_where_all_is_installed(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", no_pip)
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    least = {"torch": "2.4", "timm": "1.0.20"}
    exec(compile(install_cell.source(REPOSITORY, REF, least), "<cell>", "exec"), {})
    assert capsys.readouterr().out == "Everything this page needs is installed.\n"


def test_cell_runs_each_command_once(monkeypatch, capsys):
    calls = []
    run_cell(monkeypatch, HOSTED, lambda call: calls.append(call) or 0)
    assert calls == commands(HOSTED, REPOSITORY, REF)
    assert capsys.readouterr().out == "Installed what was missing.\n"


def test_names_are_compared_as_pip_compares_them(monkeypatch):
    names = {"huggingface-hub": "huggingface_hub", "pyyaml": "PyYAML", "lightvit-lab": "lightvit_lab"}
    run_cell(monkeypatch, {names.get(name, name): version for name, version in COMPLETE.items()}, no_pip)


def test_broken_metadata_without_a_name_is_passed_over(monkeypatch):
    run_cell(monkeypatch, COMPLETE | {None: None}, no_pip)


def test_commit_that_is_gone_falls_back_to_main_with_a_warning(monkeypatch, capsys):
    calls = []
    run_cell(monkeypatch, HOSTED, lambda call: calls.append(call) or int(call[-1].endswith(REF)))
    assert calls[-2:] == [LIBRARY, [*LIBRARY[:-1], f"git+{REPOSITORY}@main"]]
    assert "Warning: commit 012345678 could not be fetched" in capsys.readouterr().out


@pytest.mark.parametrize("fails", ["captum", f"git+{REPOSITORY}@"])
def test_failing_pip_stops_the_notebook(monkeypatch, fails):
    with pytest.raises(RuntimeError, match="failed"):
        run_cell(monkeypatch, HOSTED, lambda call: int(call[-1].startswith(fails)))


@pytest.mark.parametrize("gone", ["torch", "torchvision"])
def test_missing_torch_is_explained_not_installed(monkeypatch, gone):
    installed = {name: version for name, version in HOSTED.items() if name != gone}
    with pytest.raises(RuntimeError, match="Install torch and torchvision as https://pytorch.org says"):
        run_cell(monkeypatch, installed, no_pip)


def test_too_old_package_stops_before_anything_is_downloaded(monkeypatch):
    with pytest.raises(RuntimeError, match="Update timm 0.9.2 to 1.0.20, restart the kernel"):
        run_cell(monkeypatch, HOSTED | {"timm": "0.9.2"}, no_pip, least={"timm": "1.0.20"})


def test_cell_is_short_and_has_a_title():
    source = install_cell.source(REPOSITORY, REF, {"torch": "2.4"})
    ast.parse(source)
    assert source.startswith("# @title ") and len(source.splitlines()) <= 40
