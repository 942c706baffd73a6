"""Runs that are kept: read back, made anew where the file is damaged, and never lost for a full disk."""

import json
import os

import pytest

from lightvit_lab.errors import LabError
from lightvit_lab.experiments import keeping

RUN = {"test": 0.5, "cpu_seconds": 3.0, "rows": [[1, 2], [3, 4]]}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(keeping.runtime, "cache", lambda: tmp_path)
    return tmp_path / "studies"


def kept(run, about=("a", 1)):
    return keeping.kept("study", list(about), run if callable(run) else lambda: run, "label")


def never():
    pytest.fail("made again")


def test_a_run_is_made_once_and_another_setting_is_another_run(folder, capsys):
    assert kept(RUN) == RUN and kept(never) == RUN
    assert capsys.readouterr().out == "label: test 0.5, 3.0 s\n"
    assert kept({**RUN, "test": 0.6}, ("a", 2))["test"] == 0.6 and len(list(folder.iterdir())) == 2


def test_a_run_that_was_kept_before_files_were_written_beside_is_read(folder):
    kept(RUN)
    (path,) = folder.iterdir()
    path.write_text(json.dumps(RUN))       # without indentation, as it was
    assert kept(never) == RUN


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b"{}", b"NaN", b"\xff", b"[" * 10**5, b"9" * 5000,
                                    b'{"test": 1}', b'{"test": 0.5, "cpu_seconds": "3"}'])
def test_a_damaged_file_is_said_and_made_anew_and_the_study_goes_on(folder, damage):
    kept(RUN)
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    with pytest.warns(UserWarning, match=f"{path.name}.*; it is made anew"):
        assert kept(RUN) == RUN
    assert kept(never) == RUN


def test_a_full_disk_costs_a_warning_and_not_the_run(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="No space left on device.*The study goes on"):
            assert kept(RUN) == RUN
    assert not list(folder.iterdir())


def test_a_run_that_json_cannot_hold_costs_a_warning_and_not_the_run(folder):
    with pytest.warns(UserWarning, match="cannot hold what is given"):
        assert kept({**RUN, "loss": float("nan")})["test"] == 0.5


def test_a_folder_that_was_deleted_is_made_anew(folder):
    kept(RUN)
    (path,) = folder.iterdir()
    path.unlink(), folder.rmdir()
    assert kept(RUN) == RUN and kept(never) == RUN


def test_a_cache_that_is_no_folder_is_refused_in_a_sentence(folder):
    folder.write_text("in the way")
    with pytest.raises(LabError, match="studies cannot be made .*set LIGHTVIT_CACHE"):
        keeping.place("logits")


def test_a_run_is_made_once_and_again_only_for_another_study_or_another_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"test": len(made) / 10, "cpu_seconds": 1.0}

    about = ["model", {"steps": 3}, 0]
    assert keeping.kept("one", about, make, "run")["test"] == 0.1
    assert keeping.kept("one", ["model", {"steps": 3}, 0], make, "run")["test"] == 0.1 and len(made) == 1
    assert keeping.kept("one", ["model", {"steps": 4}, 0], make, "run")["test"] == 0.2
    assert keeping.kept("two", about, make, "run")["test"] == 0.3
    assert keeping.kept("one", about, make, "run")["test"] == 0.1 and len(made) == 3
