"""What is kept of a reader's checks: across sessions and processes, over damage, and nothing where it is unwanted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightvit_lab.exercises import check, examine, find, record
from lightvit_lab.exercises.record import Entry

COUNT = "vision_transformer.count"


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """The file that progress is kept in, in a cache of its own, which no setting of the tests switches off."""
    for name in ("LIGHTVIT_PROGRESS", "LIGHTVIT_BOOK", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record, "_session", {})
    monkeypatch.setattr(record, "write_failed", False)
    return tmp_path / "cache" / "progress.json"


def new_session():
    record._session.clear()


def test_attempts_are_counted_until_the_pass_which_nothing_takes_back(kept):
    for answer in (..., 3, "many", 577, 3, ...):
        check(COUNT, answer)
    assert record.entries() == {COUNT: Entry("passed", 3)}
    new_session()
    assert record.entries() == {COUNT: Entry("passed", 3)}


def test_a_new_session_counts_on(kept):
    check(COUNT, 3)
    new_session()
    check(COUNT, 4)
    assert record.entries() == {COUNT: Entry("wrong", 2)}


def test_a_stub_writes_nothing_and_examining_leaves_no_trace(kept):
    check(COUNT, ...)
    examine(find(COUNT), 577)
    assert not kept.exists()


def test_two_processes_do_not_lose_each_others_checks(kept):
    code = ("from lightvit_lab.exercises.record import note\n"
            "for n in range(25): note('page.' + {name!r} + str(n), 'passed')")
    running = [subprocess.Popen([sys.executable, "-c", code.format(name=name)], env=dict(os.environ)) for name in "ab"]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(json.loads(kept.read_text())["exercises"]) == 50


@pytest.mark.parametrize("damage", [
    "", "{", "[]", "null", '{"exercises": 3}', "\x00\xff", '{"exercises": {"a": 1}}', "[" * 100_000,
    '{"exercises": {"vision_transformer.count": {"status": "best", "attempts": 1}}}',
    '{"exercises": {"vision_transformer.count": {"status": "wrong", "attempts": "1"}}}'])
def test_a_damaged_file_counts_as_none_and_is_mended_by_the_next_check(kept, damage):
    kept.parent.mkdir()
    kept.write_bytes(damage.encode("latin-1"))
    assert record.entries() == {}
    assert check(COUNT, 577).status == "passed"
    new_session()
    assert record.entries()[COUNT] == Entry("passed", 1)


def test_what_a_later_version_added_to_an_entry_does_no_harm(kept):
    kept.parent.mkdir()
    kept.write_text(json.dumps({"version": 9, "exercises": {COUNT: {"status": "wrong", "attempts": 2, "when": "x"}}}))
    assert record.entries() == {COUNT: Entry("wrong", 2)}


def test_a_folder_that_cannot_be_written_fails_no_check_and_the_session_still_knows(kept):
    kept.parent.write_text("a file where the folder should be")
    assert check(COUNT, 577).status == "passed"
    assert record.write_failed and record.entries() == {COUNT: Entry("passed", 1)}


def test_a_write_that_fails_half_way_leaves_the_old_file_whole(kept, monkeypatch):
    check(COUNT, 3)
    before = kept.read_text()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        check(COUNT, 4)
    assert kept.read_text() == before and record.entries() == {COUNT: Entry("wrong", 2)}
    assert not list(kept.parent.glob("*.partial"))


@pytest.mark.parametrize("name, value", [("LIGHTVIT_PROGRESS", "0"), ("LIGHTVIT_PROGRESS", "off"),
                                         ("LIGHTVIT_BOOK", "1"), ("CI", "true")])
def test_it_is_switched_off_by_the_reader_in_builds_and_in_ci(kept, monkeypatch, name, value):
    check("vision_transformer.budget", 528)
    new_session()
    monkeypatch.setenv(name, value)
    assert record.reason_not_stored()
    check(COUNT, 577)
    assert record.entries() == {COUNT: Entry("passed", 1)}, "what was kept before must not reach a page"
    assert COUNT not in kept.read_text()


def test_without_a_home_folder_checks_still_work(kept, monkeypatch):
    monkeypatch.delenv("LIGHTVIT_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert check(COUNT, 577).status == "passed" and "LIGHTVIT_CACHE" in record.reason_not_stored()


def test_these_tests_are_run_without_touching_anybodys_progress():
    assert record.reason_not_stored()
