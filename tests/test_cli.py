"""The command `lightvit-lab`: what it prints, how it exits, and that it works where torch does not."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from lightvit_lab import __version__, cli
from lightvit_lab.cli import doctor, main
from lightvit_lab.experiments import results

LINE = re.compile(r"  \[(ok|missing|optional|unfit)\] +\S")


def run(*arguments, before):
    """The command in a process of its own; `before` is run first, to break something."""
    code = f"import sys; {before}; from lightvit_lab.cli import main; sys.exit(main({list(arguments)!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def without(monkeypatch):
    """Make packages look as if they were not installed."""
    def hide(*names, versions=()):
        known = dict(versions)
        real = metadata.version

        def version(name):
            if name in names:
                raise metadata.PackageNotFoundError(name)
            return known.get(name) or real(name)
        monkeypatch.setattr(metadata, "version", version)
    return hide


def lines_with(lines, word):
    return [line for line in lines if word in line.text]


def test_the_version_is_that_of_the_library(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out.strip() == f"lightvit-lab {__version__}"


def test_the_doctor_reports_every_part_line_by_line(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    findings = [line for line in printed.splitlines() if line.startswith("  [")]
    assert all(LINE.match(line) for line in findings)
    parts = ("torch ", "timm ", "device: ", "threads: ", "torchvision ", "instruction sets: ", "LIGHTVIT_DATA", "disk,")
    for part in parts:
        assert any(part in line for line in findings), part


def test_a_missing_core_package_is_named_with_the_command_that_installs_it(without, capsys):
    without("timm")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "[missing]  timm is not installed" in printed
    assert f"-> {sys.executable} -m pip install 'timm>=1.0.28'" in printed


def test_a_missing_extra_is_optional_and_does_not_fail(without, capsys):
    without("optuna")
    assert main(["doctor"]) == 0
    assert "[optional] optuna (scale) is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("name, version", [("torch", "1.13.0"), ("jupyter-book", "2.1.7")])
def test_a_version_out_of_bounds_is_unfit(without, name, version):
    without(versions={name: version})
    found = [line for core in (True, False) for line in doctor.packages(core) if line.text.startswith(name + " ")]
    assert [line.status for line in found] == ["unfit"] and name in found[0].mend


def test_jupyterlab_npm_and_a_browser_are_looked_for_under_all_their_names(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    lab, npm, browser = doctor.programs()
    assert {line.status for line in (lab, npm, browser)} == {"optional"} and not any(line.core for line in (lab, npm, browser))
    assert "jupyterlab" in lab.mend and "CDN" in npm.text and "make pdf" in browser.text
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}" if name == "google-chrome" else None)
    assert [line.status for line in doctor.programs()] == ["optional", "optional", "ok"]
    assert "/bin/google-chrome" in list(doctor.programs())[-1].text


def test_the_browser_that_the_variable_names_comes_before_those_that_are_installed(monkeypatch, tmp_path):
    for name in ("mine", "google-chrome"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for named, found in (("", "google-chrome"), (str(tmp_path / "mine"), "mine"), ("/not/there", "google-chrome")):
        monkeypatch.setenv("CHROMIUM", named)
        line = list(doctor.programs())[-1]
        assert line.status == "ok" and line.text.endswith(str(tmp_path / found))


def test_every_requirement_of_the_library_but_itself_is_looked_at():
    wanted = {re.match(r"[\w.-]+", text)[0] for text in metadata.requires("lightvit-lab")} - {"lightvit-lab"}
    seen = {line.text.split()[0] for core in (True, False) for line in doctor.packages(core)}
    assert seen == wanted


def test_without_torch_the_doctor_still_works_and_says_so():
    done = run("doctor", before="sys.modules['torch'] = None")
    assert done.returncode == 1 and not done.stderr
    assert "torch cannot be imported" in done.stdout and "pip install --force-reinstall torch" in done.stdout
    assert "instruction sets: " in done.stdout and "disk, here" in done.stdout


def test_the_command_line_itself_imports_no_torch():
    done = run("--version", before="import atexit; atexit.register(lambda: print('torch' in sys.modules))")
    assert done.stdout.splitlines()[-1] == "False"


def test_a_device_that_cannot_be_used_says_how_to_unset_it(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "toaster")
    device = lines_with(doctor.machine(), "LIGHTVIT_DEVICE=toaster")
    assert [line.mend for line in device] == ["unset LIGHTVIT_DEVICE"]


def test_data_sets_are_found_by_folder_and_only_those_the_library_can_read(monkeypatch, tmp_path):
    for folder in ("fashion_mnist", "something_else"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path))
    line = lines_with(doctor.data_and_disk(), "LIGHTVIT_DATA")[0]
    assert line.status == "ok" and str(tmp_path) in line.text and line.text.endswith(": fashion_mnist")


def test_a_data_folder_that_does_not_exist_is_shown_resolved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTVIT_DATA", "not/here")
    line = lines_with(doctor.data_and_disk(), "LIGHTVIT_DATA")[0]
    assert line.status == "missing" and str(tmp_path / "not" / "here") in line.text
    assert "unset LIGHTVIT_DATA" in line.mend


def test_an_empty_or_unset_data_folder_is_optional_and_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_DATA", str(tmp_path))
    empty = lines_with(doctor.data_and_disk(), "LIGHTVIT_DATA")[0]
    assert empty.status == "optional" and str(tmp_path / "fashion_mnist") in empty.mend
    monkeypatch.delenv("LIGHTVIT_DATA")
    assert "export LIGHTVIT_DATA=" in lines_with(doctor.data_and_disk(), "LIGHTVIT_DATA")[0].mend


def test_a_full_disk_is_unfit(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**29})())
    line = doctor._disk("here", tmp_path / "not" / "made" / "yet")
    assert line.status == "unfit" and "0.5 GiB free" in line.text and "du -sh" in line.mend


@pytest.fixture
def stored(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    return tmp_path


def test_stored_results_are_listed_with_device_and_date_and_printed_by_name(stored, capsys):
    results.save("speed", {"latency_ms": 3}, seeds=[0], command="make reference", seconds=1.0)
    assert main(["results"]) == 0
    listed = capsys.readouterr().out
    assert "speed" in listed and results.load("speed").date[:10] in listed and results.load("speed").device in listed
    assert main(["results", "speed"]) == 0
    assert json.loads(capsys.readouterr().out) == {"latency_ms": 3}


def test_the_list_says_in_a_sentence_what_each_stored_run_is_about(capsys):
    assert main(["results"]) == 0
    blocks = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("     ")]
    listed = list(zip(blocks[::3], blocks[1::3], blocks[2::3]))
    assert [name for name, _, _ in listed] == list(results.names())
    for name, about, origin in listed:
        assert origin.strip().startswith("Stored run: ")
        assert re.fullmatch(r"    [A-Z].*\.", about), f"{name}: add a sentence to lightvit_lab/experiments/about.json"


def test_no_stored_results_says_how_to_make_them(stored, capsys):
    assert main(["results"]) == 0
    assert "make reference" in capsys.readouterr().out


def test_an_unknown_or_broken_stored_result_is_named_on_stderr(stored, capsys):
    results.save("speed", {}, seeds=[0], command="make reference", seconds=1.0)
    assert main(["results", "sped"]) == 2
    assert 'Did you mean "speed"' in capsys.readouterr().err
    (stored / "broken.json").write_text("{")
    assert main(["results"]) == 2
    assert "broken.json" in capsys.readouterr().err


def test_without_the_grader_grading_says_in_one_line_what_installs_it_and_exits_with_two():
    hidden = "sys.modules['lightvit_grader'] = None"
    done = run("grade", "submissions", "--csv", "grades.csv", before=hidden)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    folder = re.search(r'pip install "(.+)"$', done.stderr.strip())[1]
    project = tomllib.loads(Path(folder, "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "lightvit-lab-grader"


def test_a_grader_that_is_there_and_broken_is_not_said_to_be_missing():
    broken = "sys.modules['lightvit_grader.session'] = None"
    done = run("grade", "submissions", "--csv", "grades.csv", before=broken)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


@pytest.mark.parametrize("note, source", [
    ("", "git+https://host/lab#subdirectory=book/grader"),
    ('{"url": "https://host/lab", "vcs_info": {"vcs": "git", "commit_id": "abc1"}}',
     "git+https://host/lab@abc1#subdirectory=book/grader"),
    ('{"url": "file:///a", "archive_info": {}}', "git+https://host/lab#subdirectory=book/grader")])
def test_outside_a_checkout_the_grader_comes_from_the_repository_at_the_commit_of_the_library(
        note, source, monkeypatch, tmp_path):
    links = "Project-URL: Home, https://x\nProject-URL: Repository, https://host/lab\n"
    (tmp_path / "METADATA").write_text(links)
    if note:
        (tmp_path / "direct_url.json").write_text(note)
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(tmp_path))
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "lightvit_lab" / "cli" / "__init__.py"))
    assert cli._grader_source() == source


def test_colab_and_the_grader_are_found_at_the_repository_that_the_installed_library_names(monkeypatch, tmp_path):
    (tmp_path / "METADATA").write_text("Project-URL: Home, https://x\nProject-URL: Repository, https://github.com/me/lab/\n")
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(tmp_path))
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "lightvit_lab" / "cli" / "__init__.py"))
    assert cli.opening.address("part/x") == (
        "https://colab.research.google.com/github/me/lab/blob/main/chapters/part/x.ipynb")
    assert cli._grader_source() == "git+https://github.com/me/lab#subdirectory=book/grader"


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli._COMMANDS)], ids=" ".join)
def test_every_help_says_what_the_command_does_and_needs_no_torch(arguments):
    done = run(*arguments, before="import atexit; atexit.register(lambda: print('torch' in sys.modules))")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"
    _, _, rest = done.stdout.partition("\n\n")
    described = rest.partition("\n\n")[0]
    assert described[0].isupper() and described.endswith(".") and len(described.split()) >= 6


def test_each_command_is_listed_with_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {text}" in printed for name, text in cli._COMMANDS.items())


@pytest.mark.parametrize("arguments", [[], ["docter"], ["doctor", "--fast"]])
def test_a_wrong_call_exits_with_two_and_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "usage: lightvit-lab" in capsys.readouterr().err
