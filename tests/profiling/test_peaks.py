"""Peaks of this machine, and the card that keeps them. No rate is asserted: machines differ."""

import json
import os
from dataclasses import asdict

import pytest
import torch

from lightvit_lab import profiling, runtime
from lightvit_lab.errors import LabError
from lightvit_lab.profiling import peaks as peaks_file


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A machine that is measured in no time, at rates that were made up; what was measured, as (threads, type)."""
    asked = []

    def measured(dtype=torch.float32):
        asked.append((torch.get_num_threads(), dtype))
        name = str(dtype).removeprefix("torch.")
        return profiling.Peaks(1e9 * len(asked), 1e8, name, torch.get_num_threads(), "here")

    monkeypatch.setattr(peaks_file, "machine_peaks", measured)
    monkeypatch.setattr(peaks_file, "_processors", lambda: 2)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    return asked


@pytest.fixture
def path(asked, tmp_path):
    return tmp_path / "cache" / "machine_cpu.json"


def test_peaks_are_of_this_machine_at_its_number_of_threads(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    found = profiling.machine_peaks(seconds=0)
    assert found.flops_s > 0 and found.bytes_s > 0
    assert (found.dtype, found.threads, found.device) == ("float32", torch.get_num_threads(), runtime.hardware_name())


def test_the_best_of_all_sizes_and_repetitions_counts(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    monkeypatch.setitem(peaks_file._SIZES, "cpu", (2, 4, 8))
    seconds = {2: 1.0, 4: 0.5, 8: 100.0}       # 16, 128 and 1024 FLOPs: the middle one is the fastest
    monkeypatch.setattr(peaks_file, "_least_seconds", lambda call, budget: seconds[len(call())])
    assert peaks_file._matrix_peak(torch.float32, seconds=1e6) == 256
    seconds[2] = 16.0                          # one FLOP/s: 128 of them are more than a third of 30 seconds
    assert peaks_file._matrix_peak(torch.float32, seconds=30) == 1


def test_the_least_time_is_taken_until_the_budget_is_spent(monkeypatch):
    now, takes = [0.0], iter([50.0, 3.0, 2.0, 4.0, 1.0])        # the first warms up, the last comes after the budget
    monkeypatch.setattr(peaks_file, "device_clock", lambda: lambda: now[0])

    def call():
        now[0] += next(takes)

    assert peaks_file._least_seconds(call, budget_s=8.0) == 2.0


@pytest.mark.parametrize(("given", "message"), [
    ({"dtype": torch.int8}, "dtype=torch.int8; give a floating"), ({"dtype": "float32"}, "dtype='float32'"),
    ({"seconds": -1}, "seconds=-1"),
])
def test_types_and_times_that_make_no_sense_are_refused(given, message, monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    with pytest.raises(LabError, match=message):
        profiling.machine_peaks(**given)


def test_a_type_that_torch_cannot_multiply_here_is_refused_with_its_reason(monkeypatch):
    def refuse(*_):
        raise RuntimeError('"addmm" not implemented')

    monkeypatch.setattr(peaks_file, "_matrix_peak", refuse)
    with pytest.raises(LabError, match='dtype=torch.float16 here .*not implemented.*torch.float32 always works'):
        profiling.machine_peaks(torch.float16)


def test_the_card_has_both_types_at_one_thread_and_at_all_and_leaves_the_threads_alone(asked):
    before = torch.get_num_threads()
    card = profiling.machine_card()
    assert asked == [(threads, dtype) for threads in (1, 2) for dtype in (torch.float32, torch.bfloat16)]
    assert torch.get_num_threads() == before
    assert [(entry["threads"], entry["dtype"]) for entry in card["peaks"]] == [
        (1, "float32"), (1, "bfloat16"), (2, "float32"), (2, "bfloat16")]
    assert card["device"] == runtime.hardware_name() and card["versions"] == runtime.versions() and card["date"]
    assert profiling.Peaks(**card["peaks"][3]).flops_s == 4e9


def test_a_type_that_is_not_multiplied_here_is_left_out(asked, monkeypatch):
    def only_float32(dtype):
        if dtype != torch.float32:
            raise LabError("not here")
        return profiling.Peaks(1.0, 1.0, "float32", 1, "here")

    monkeypatch.setattr(peaks_file, "machine_peaks", only_float32)
    assert {entry["dtype"] for entry in profiling.machine_card()["peaks"]} == {"float32"}


def test_the_card_is_kept_whole_read_back_and_made_anew_when_asked(asked, path):
    card = profiling.machine_card()
    assert json.loads(path.read_text()) == card
    assert os.listdir(path.parent) == [path.name]            # no half card is left
    assert profiling.machine_card() == card and len(asked) == 4
    assert profiling.machine_card(refresh=True)["peaks"] != card["peaks"] and len(asked) == 8


GOOD = asdict(profiling.Peaks(1.0, 1.0, "float32", 1, "here"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00\xff", *(json.dumps(change) for change in (
    {"device": "another machine"}, {"processors": 64}, {"versions": {"torch": "0.1"}}, {"versions": None},
    {"peaks": []}, {"peaks": [{"flops_s": 1.0}]}, {"peaks": [GOOD | {"bytes_s": 0}]},
    {"peaks": [GOOD | {"flops_s": "fast"}]}))])
def test_a_broken_card_and_that_of_another_machine_are_made_anew(asked, path, text):
    card = profiling.machine_card()
    changed = json.dumps(card | json.loads(text)) if text.startswith('{"') else text
    path.write_text(changed, encoding="latin-1")
    assert len(profiling.machine_card()["peaks"]) == 4
    assert len(asked) == 8
    assert json.loads(path.read_text())["device"] == runtime.hardware_name()


def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_card(asked, path):
    path.parent.parent.joinpath("cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot be kept.*set LIGHTVIT_CACHE"):
        assert len(profiling.machine_card()["peaks"]) == 4


def test_a_copy_moves_every_byte_twice_once_read_and_once_written(monkeypatch):
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    monkeypatch.setitem(peaks_file._COPIED, "cpu", 2**20)                  # a copy of 1 MiB that takes half a second
    monkeypatch.setattr(peaks_file, "_least_seconds", lambda call, budget: (call(), 0.5)[1])
    assert profiling.machine_peaks(seconds=0).bytes_s == 2 * 2**20 / 0.5
