"""The walls: what may be read and written behind them, and that a machine without them is told so."""

import subprocess
import sys

import pytest

from lightvit_grader import lockdown
from lightvit_lab.cli import main

needs_landlock = pytest.mark.skipif(not lockdown.landlock_version(), reason="needs Landlock: Linux 5.13 or later")
CONFINED = """
import sys
from pathlib import Path
from lightvit_grader import lockdown
assert lockdown.confine_files(Path(sys.argv[1]))
"""


def confined(scratch, code, *arguments):
    """A statement in a process of its own that may write to `scratch` alone; what it printed."""
    command = [sys.executable, "-c", CONFINED + code, str(scratch), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def refused(scratch, *acts):
    """What each statement raised, all in one such process; "nothing" where it was done."""
    lines = [f"try:\n    {act}\nexcept Exception as error: print(type(error).__name__)\nelse: print('nothing')" for act in acts]
    return confined(scratch, "\n".join(lines)).splitlines()


@needs_landlock
def test_the_scratch_folder_can_be_written_and_its_neighbours_neither_written_nor_read(tmp_path):
    scratch, beside = tmp_path / "scratch", tmp_path / "beside"
    scratch.mkdir(), beside.mkdir()
    (beside / "grades.csv").write_text("ana")
    code = "(Path(sys.argv[1]) / 'a.txt').write_text('b'); print((Path(sys.argv[1]) / 'a.txt').read_text())"
    assert confined(scratch, code) == "b"
    acts = ("read_text()", "write_text('')", "unlink()", "rename(sys.argv[1] + '/x')", "parent.rmdir()")
    found = refused(scratch, *(f"Path({str(beside / 'grades.csv')!r}).{act}" for act in acts))
    assert dict(zip(acts, found, strict=True)) == dict.fromkeys(acts, "PermissionError")
    assert (beside / "grades.csv").read_text() == "ana"


@needs_landlock
def test_the_library_can_be_used_and_the_declared_answers_cannot_be_read(tmp_path):
    answers = lockdown.PACKAGE / "exercises" / "answers" / "foundations"
    words = {"vision_transformer.py": "MISTAKES", "vision_transformer.json": "answer"}
    for name, word in words.items():
        assert word in (answers / name).read_text(encoding="utf-8")
    assert refused(tmp_path, *(f"Path({str(answers / name)!r}).read_text()" for name in words)) == ["PermissionError"] * 2
    assert confined(tmp_path, "from lightvit_lab.exercises import find\nexercise = find('vision_transformer.patchify')\n"
                    "print('raise NotImplementedError' in exercise.stub and exercise.cases is not None)\n"
                    "from lightvit_lab.exercises import check; from lightvit_lab.experiments import results\n"
                    "print(len(results.names()) > 5)") == "True\nTrue"


@needs_landlock
def test_the_pages_of_a_checkout_cannot_be_read(tmp_path):
    page = lockdown.PACKAGE.parent / "chapters" / "foundations" / "vision_transformer.md"
    if not page.is_file():
        pytest.skip("the library is not run from a checkout")
    assert "PermissionError" in confined(tmp_path, "Path(sys.argv[2]).read_text()", page)


def test_a_machine_without_walls_is_told_before_anything_is_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(lockdown, "landlock_version", lambda: 0)
    monkeypatch.setattr(lockdown, "namespaces", lambda: ())
    assert len(lockdown.walls()) == 3
    assert main(["grade", str(tmp_path / "none"), "--csv", "x.csv"]) == 2
    said = capsys.readouterr().err
    assert "can read and delete every file that you can" in said and "Not protected on this machine" in said


def test_limits_are_final_for_the_process(tmp_path):
    code = ("import resource\nfrom lightvit_grader import lockdown\nlockdown.limit_resources(64, 10)\n"
            "soft, hard = resource.getrlimit(resource.RLIMIT_CPU)\nassert soft == hard == 15\n"
            "try:\n    bytearray(2**28)\nexcept MemoryError:\n    print('refused')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if sys.platform.startswith("linux"):
        assert done.stdout.strip() == "refused", done.stderr


def test_what_lies_around_a_hidden_folder_is_everything_but_it(tmp_path):
    for name in ("a/b/hidden/x", "a/b/seen", "c/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c" / "up").symlink_to(tmp_path)
    (tmp_path / "a64").symlink_to("a")               # as lib64 of a virtual environment
    shown = {path.relative_to(tmp_path).as_posix(): rights
             for path, rights in lockdown._around(tmp_path, [tmp_path / "a" / "b" / "hidden"], 12)}
    assert shown == {".": 8, "a": 8, "a/b": 8, "a/b/seen": 12, "c": 12}
