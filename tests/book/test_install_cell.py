"""The install cell: adds what is missing, touches nothing that is there, and says in one sentence what it cannot do."""

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import install_cell
import pytest
from install_cell import commands, fingerprint, library, remedy, too_old

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
    ("0.9.16", "1.0.20", True), ("1.0.3", "1.0.20", True), ("1.0.100", "1.0.20", False), ("1.0.20", "1.0.20", False),
    ("2.5", "2.5.0", False), ("10", "10.0", False), ("2.5+cu118", "2.5.1", True), ("8.1rc1", "8.1", False)])
def test_versions_are_compared_as_numbers_and_the_bound_itself_is_enough(version, bound, old):
    assert too_old({"timm": version}, {"timm": bound, "captum": "9"}) == ["timm"] * old


LEAST = {"torch": "2.5", "timm": "1.0.28", "captum": "0.8", "plotly": "5.24", "ipywidgets": "7.7", "pillow": "10"}


@pytest.mark.parametrize("old, command", [
    (["plotly"], '`pip install -U "plotly>=5.24"`'),
    (["plotly", "pillow"], '`pip install -U "plotly>=5.24" "pillow>=10"`'),
    (["torch"], '`pip install -U "torch>=2.5" torchvision`'),
    (["timm", "captum"], '`pip install -U --no-deps "timm>=1.0.28" "captum>=0.8"`'),
    (["timm", "plotly"], '`pip install -U "plotly>=5.24"` and `pip install -U --no-deps "timm>=1.0.28"`'),
])
def test_the_sentence_gives_the_command_that_mends_it(old, command):
    said = remedy(old, dict.fromkeys(old, "0.1"), LEAST, colab=False)
    assert f" Run {command}, restart the kernel" in said
    assert all(f"{name} 0.1, needs {LEAST[name]}" in said for name in old)


@pytest.mark.parametrize("old", [["ipywidgets"], ["torch"], ["plotly", "ipywidgets"]])
def test_in_colab_nobody_is_sent_to_another_torch_or_ipywidgets_but_to_a_fresh_runtime(old):
    said = remedy(old, dict.fromkeys(old, "0.1"), LEAST, colab=True)
    assert "pip install" not in said and "Runtime > Disconnect and delete runtime" in said
    assert '`pip install -U "plotly>=5.24"`' in remedy(["plotly"], {"plotly": "5.0"}, LEAST, colab=True)


def test_in_colab_a_missing_ipywidgets_is_never_version_8():
    missing = {name: version for name, version in COMPLETE.items() if name != "ipywidgets"}
    assert commands(missing, REPOSITORY, REF, colab=True) == [["install", "-q", "ipywidgets<8"]]
    assert commands(missing, REPOSITORY, REF) == [["install", "-q", "ipywidgets"]]


@pytest.mark.parametrize("package, variable, known", [
    ("", "", False), ("google", "", False), ("google/colab", "", True), ("", "release-colab-20260819", True)])
def test_colab_is_known_by_its_package_and_by_its_variable(tmp_path, package, variable, known):
    (tmp_path / package).mkdir(parents=True, exist_ok=True)
    for folder in [tmp_path / "google"] * ("google" in package) + [tmp_path / package]:
        (folder / "__init__.py").touch()
    script = f"import importlib.util, os\n{inspect.getsource(install_cell.in_colab)}\nprint(in_colab())"
    environment = {"PYTHONPATH": str(tmp_path)} | ({"COLAB_RELEASE_TAG": variable} if variable else {})
    ran = subprocess.run([sys.executable, "-S", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{known}\n"


def run_cell(monkeypatch, installed, pip, least=None, code="", colab=False):
    """Runs the cell's own source in an environment made up for it; `pip(call)` stands for pip and gives its status."""
    if colab:
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-20260819")
    else:
        monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    found = [SimpleNamespace(metadata={"Name": name}, version=version) for name, version in installed.items()]
    monkeypatch.setattr(metadata, "distributions", lambda: found)
    monkeypatch.setattr(subprocess, "run", lambda call, **options: SimpleNamespace(returncode=pip(call[3:])))
    exec(compile(install_cell.source(REPOSITORY, REF, least or {}, code), "<cell>", "exec"), {})


def no_pip(call):
    raise AssertionError(f"pip was started: {call}")


def test_cell_does_nothing_here_where_all_is_installed(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", no_pip)
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    least = {"torch": "2.5", "timm": "1.0.28"}
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


def test_a_revision_that_cannot_be_installed_is_refused_and_no_other_tried(monkeypatch, capsys):
    calls = []
    with pytest.raises(RuntimeError, match=f"{REF} failed; .* No other revision is run in its place"):
        run_cell(monkeypatch, HOSTED, lambda call: calls.append(call) or int(call[-1].endswith(REF)))
    assert calls == commands(HOSTED, REPOSITORY, REF) and capsys.readouterr().out == ""


def test_an_installed_library_of_another_revision_is_refused_with_the_command_that_mends_it(monkeypatch):
    command = f"`pip install --no-deps --force-reinstall git+{REPOSITORY}@{REF}`"
    with pytest.raises(RuntimeError, match=f"is not revision {REF[:9]}") as refused:
        run_cell(monkeypatch, COMPLETE, no_pip, code="another revision")
    assert command in str(refused.value)


def test_another_library_in_front_of_the_one_just_installed_is_refused_too(monkeypatch):
    with pytest.raises(RuntimeError, match=f"is not revision {REF[:9]}"):
        run_cell(monkeypatch, HOSTED, lambda call: 0, code="another revision")


def test_the_revision_that_the_notebook_names_is_run(monkeypatch, capsys):
    run_cell(monkeypatch, COMPLETE, no_pip, code=fingerprint(library()))
    assert capsys.readouterr().out == "Everything this page needs is installed.\n"


def test_a_checkout_runs_its_own_library_only_unchanged_and_only_in_a_notebook_that_lies_there(tmp_path):
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=tmp_path / "lab",
                              check=True, capture_output=True, text=True).stdout.strip()

    def commit(text):
        (tmp_path / "lab/lightvit_lab/__init__.py").write_text(text)
        git("add", "-A")
        git("commit", "-m", text)
        return git("rev-parse", "HEAD")

    def found(ref, folder="lab/chapters/part"):
        script = ("import importlib.util, pathlib, subprocess\n"
                  f"{inspect.getsource(install_cell.checkout)}\nprint(checkout({ref!r}))")
        return subprocess.run([sys.executable, "-c", script], cwd=tmp_path / folder, check=True, capture_output=True,
                              text=True, env={"PYTHONPATH": str(tmp_path / "lab"), "PATH": os.environ["PATH"]}).stdout.strip()

    for folder in ("lab/lightvit_lab", "lab/chapters/part", "drive"):
        (tmp_path / folder).mkdir(parents=True)
    git("init")
    named, newer = commit("one = 1"), commit("one = 2")
    assert found(named) == found(newer) == newer
    assert found(REF) == found("0" * 40) == ""                  # another history
    assert found(named, "drive") == found(named, "lab") == ""   # a notebook that was saved elsewhere
    git("checkout", "-q", named)
    assert found(newer) == ""                                   # written for a library that is newer than this
    (tmp_path / "lab/lightvit_lab/mine.py").write_text("")
    assert found(named) == ""
    (tmp_path / "lab/lightvit_lab/mine.py").unlink()
    assert found(named) == named
    (tmp_path / "lab/lightvit_lab/__init__.py").write_text("one = 3")
    assert found(named) == ""


def test_a_checkout_that_is_newer_says_which_commit_runs(monkeypatch, capsys):
    monkeypatch.setattr(install_cell, "checkout", lambda ref: "f" * 40)
    for name in ("in_colab", "commands", "too_old"):
        monkeypatch.setattr(install_cell, name, lambda *arguments, **named: [])
    install_cell.install(REPOSITORY, REF, {}, code="another revision")
    assert f"commit fffffffff; the page was written for {REF[:9]}" in capsys.readouterr().out


def test_one_changed_character_of_code_is_another_revision_and_line_ends_of_windows_are_not():
    code = {"a.py": b"one\ntwo\n", "b/c.py": b"three\n"}
    assert fingerprint({"b/c.py": b"three\r\n", "a.py": b"one\r\ntwo\r\n"}) == fingerprint(code)
    others = [code | {"a.py": b"one\ntwo"}, code | {"d.py": b""}, {"a.py": code["a.py"]},
              {"a2.py": code["a.py"], "b/c.py": code["b/c.py"]}]
    assert len({fingerprint(other) for other in [code, *others]}) == 1 + len(others)


@pytest.mark.parametrize("colab", [True, False])
def test_only_in_colab_it_is_said_that_progress_is_lost_and_how_to_keep_it(monkeypatch, capsys, colab):
    from lightvit_lab.exercises import record

    run_cell(monkeypatch, COMPLETE, no_pip, colab=colab)
    said = capsys.readouterr().out
    assert said.count("exercises you have solved") == int(colab)
    if colab:
        monkeypatch.setenv("LIGHTVIT_CACHE", "")
        drive = SimpleNamespace(mount=lambda where: None)
        monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=drive))
        exec(said.partition("run this now: ")[2], {})
        assert record.path() == Path("/content/drive/MyDrive/lightvit_lab/progress.json")


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
    with pytest.raises(RuntimeError, match="timm 0.9.2, needs 1.0.20. Run .*, restart the kernel"):
        run_cell(monkeypatch, HOSTED | {"timm": "0.9.2"}, no_pip, least={"timm": "1.0.20"})


def test_cell_is_short_and_has_a_title():
    source = install_cell.source(REPOSITORY, REF, {"torch": "2.4"})
    ast.parse(source)
    assert source.startswith("# @title ") and len(source) <= 7000
