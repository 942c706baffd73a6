"""No launch is timed in place of the work: whoever reads a clock has waited for the device."""

import sys
import time

import public_calls
import pytest
import torch

from lightvit_lab import profiling, training
from lightvit_lab.data import load


@pytest.fixture
def readings(lab, monkeypatch):
    """For each reading of a clock by the library: (its place, whether work was under way).

    The clock by which a search ends, `_search`, times no work.
    """
    found, clock = [], time.perf_counter

    def read():
        caller = sys._getframe(1)
        if "lightvit_lab" in caller.f_code.co_filename and caller.f_code.co_name != "_search":
            found.append((f"{caller.f_code.co_filename}:{caller.f_lineno}", lab.pending()))
        return clock()

    monkeypatch.setattr(time, "perf_counter", read)
    return found


@pytest.mark.parametrize(
    "call",
    [
        lambda model, inputs: profiling.measure({"one": model}, inputs, budget_s=0.02),
        lambda model, inputs: profiling.best_batch(model, inputs[:1], largest=2),
        lambda model, inputs: profiling.roofline(model, inputs, rounds=1),
        lambda model, inputs: profiling.machine_peaks(seconds=0.1),
    ],
    ids=["measure", "best_batch", "roofline", "machine_peaks"],
)
def test_every_clock_is_read_after_waiting_for_the_device(readings, lab, call):
    waited, operators = lab.synchronized(), lab.operators()
    call(public_calls.vit(), torch.randn(2, 3, 32, 32))
    assert len(readings) > 3 and lab.synchronized() > waited and lab.operators() > operators
    assert {place for place, under_way in readings if under_way} == set()


def test_seconds_of_a_training_end_when_its_losses_are_there(readings):
    history = training.fit(
        public_calls.vit(), load("shapes", "test", count=16), steps=2, batch_size=8, progress=False
    )
    last = [
        under_way for place, under_way in readings if "training/loop" in place.replace("\\", "/")
    ][-1]
    assert history.seconds > 0 and not last


def test_a_clock_read_while_work_is_under_way_is_noticed(readings, lab):
    torch.ones(3, device="lab") + 1
    exec(compile("import time; time.perf_counter()", "lightvit_lab/launch.py", "exec"), {})
    assert readings == [("lightvit_lab/launch.py:1", True)]
