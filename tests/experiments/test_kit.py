"""The kit of the studies: rows, runs that are cached and never lost for a full disk, speeds."""

import json
import os

import pytest
import torch

from lightvit_lab import profiling, training
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import kit
from lightvit_lab.profiling import timing

RUN = {"test": 0.5, "cpu_seconds": 3.0, "rows": [[1, 2], [3, 4]]}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(kit.runtime, "cache", lambda: tmp_path)
    return tmp_path / "studies"


def kept(run, about=("a", 1)):
    return kit.cached("study", kit.digest_of(list(about)), run if callable(run) else lambda: run, "label")


def never():
    pytest.fail("made again")


def test_a_run_is_made_once_and_again_only_for_another_study_or_another_setting(folder, capsys):
    assert kept(RUN) == RUN and kept(never) == RUN
    assert capsys.readouterr().out == "label: test 0.5, 3.0 s\n"
    assert kept({**RUN, "test": 0.6}, ("a", 2))["test"] == 0.6 and len(list(folder.iterdir())) == 2
    assert kit.cached("another", kit.digest_of(["a", 1]), lambda: {**RUN, "test": 0.7}, "label")["test"] == 0.7
    assert kept(never) == RUN and len(list(folder.iterdir())) == 3


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
        kit.cache_file("logits")


def double(value, times=1):
    return value * 2**times


ROWS = {
    "one": kit.Row({"shown": "a"}, ((double, {}), (double, {"times": 2})), ("raw", "tuned"), (0, 1)),
    "other": kit.Row({"shown": "b"}, ((double, {"times": 3}),)),
}


def study(made, key=lambda row, stage, seed: [row.recipe, stage, seed]):
    """A study whose runs are noted in `made`; each draws a number."""
    def run(row, stage, seed):
        made.append((row.recipe, stage, seed))
        return {"stage": stage, "seed": seed, "test": row.apply(1), "cpu_seconds": 0.5, "drawn": torch.rand(1).item()}
    return kit.Study("trial", lambda study: {"rows": study.table()}, ROWS, run, key, "trial")


def test_a_row_makes_its_calls_one_after_the_other_and_says_which():
    assert ROWS["one"].apply(1) == 8 and ROWS["one"].recipe == "double() -> double(times=2)"


def test_every_stage_and_seed_of_every_row_runs_once_seeded_and_says_what_the_row_shows(folder):
    made = []
    rows = study(made)()["rows"]
    assert [(row["label"], row["shown"], row["stage"], row["seed"]) for row in rows] == [
        ("one", "a", "raw", 0), ("one", "a", "raw", 1), ("one", "a", "tuned", 0), ("one", "a", "tuned", 1),
        ("other", "b", "", 0)]
    assert rows[0]["recipe"] == "double() -> double(times=2)" and rows[-1]["test"] == 8
    drawn = [torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in (0, 1)]
    assert [row["drawn"] for row in rows] == pytest.approx([*drawn, *drawn, drawn[0]])


def test_a_study_that_was_stopped_goes_on_with_the_runs_that_it_lacks(folder):
    made = []
    stopped = study(made)

    def stop(row, stage, seed):
        if len(made) == 2:
            raise KeyboardInterrupt
        return stopped.run(row, stage, seed)
    with pytest.raises(KeyboardInterrupt):
        kit.Study(**{**vars(stopped), "run": stop})()
    assert len(made) == 2
    again = study(made)()
    assert len(made) == 5 and len(set(made)) == 5 and len(again["rows"]) == 5


def test_without_a_key_runs_are_made_each_time_and_nothing_is_cached(folder):
    made = []
    for _ in range(2):
        study(made, key=None)()
    assert len(made) == 10 and not folder.exists()


def test_rows_of_a_table_name_known_functions_and_plain_arguments(tmp_path, monkeypatch):
    text = """{"twice": {"recipe": "double() -> double(times=(1, 2)[1])", "a": 1}}"""
    with pytest.raises(ValueError, match="malformed"):      # an expression is no plain value
        kit.calls_of("double(times=(1, 2)[1])", {"double": double})
    with pytest.raises(KeyError, match="system"):           # a name that was not given is no function
        kit.calls_of("system(command='ls')", {"double": double})
    monkeypatch.setattr(kit, "read_table", lambda name: json.loads(text.replace("(1, 2)[1]", "2")))
    row = kit.read_rows("trial", {"double": double})["twice"]
    assert (row.columns, row.stages, row.seeds) == ({"a": 1}, ("",), (0,))
    assert row.recipe == "double() -> double(times=2)" and row.apply(1) == 8


def test_a_stage_can_have_seeds_of_its_own(monkeypatch):
    table = {"one": {"recipe": "double()", "stages": ["short", "long"], "seeds": [0, 1, 2], "own_seeds": {"long": [5]}}}
    monkeypatch.setattr(kit, "read_table", lambda name: table)
    row = kit.read_rows("trial", {"double": double})["one"]
    assert row.which == [("short", 0), ("short", 1), ("short", 2), ("long", 5)] and "own_seeds" not in row.columns
    study = kit.Study("trial", lambda study: {}, {"one": row}, lambda row, stage, seed: {"stage": stage, "seed": seed})
    assert [(run["stage"], run["seed"]) for run in study.runs["one"]] == row.which and study.seeds == [0, 1, 2, 5]


def timings(small):
    seconds = {"dense": (4.0,) * 6, "small": small}
    return profiling.Timings({label: timing.summary(times, 1) for label, times in seconds.items()}, "", {})


def test_a_speedup_is_the_dense_time_over_its_own_and_its_geometric_middle_where_there_is_none():
    assert kit.speed(timings((2.0,) * 6), "dense", "small") == {
        "latency_ms": 2000.0, "interval_ms": [2000.0, 2000.0], "speedup": [2.0, 2.0, 2.0]}
    noisy = kit.speed(timings((1.0, 1.0, 1.0, 2.0, 2.0, 4.0)), "dense", "small")
    assert noisy["speedup"] == [2.0, 1.0, 4.0]                             # between 4/4 and 4/1: the root of 1 x 4


def test_times_of_several_pictures_are_those_of_one_under_keys_with_an_ending():
    assert kit.speed(timings((2.0,) * 6), "dense", "small", "_1", pictures=4) == {
        "latency_1_ms": 500.0, "interval_1_ms": [500.0, 500.0], "speedup_1": [2.0, 2.0, 2.0]}


def test_a_score_is_rounded_with_its_interval():
    found = kit.scored(training.Score(0.123456, 0.1, 0.15004, 10))
    assert found == {"test": 0.1235, "test_low": 0.1, "test_high": 0.15}


def test_averages_are_those_of_stretches_of_nearly_equal_length():
    assert kit.averages([1.0, 3.0, 5.0, 7.0, 9.0], 2) == [2.0, 7.0]
    assert kit.averages([1.0, 2.0], 60) == [1.0, 2.0]
