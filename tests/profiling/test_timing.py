import time
from math import comb

import pytest
import torch
from torch import nn

from lightvit_lab import profiling
from lightvit_lab.errors import LabError
from lightvit_lab.profiling import timing
from lightvit_lab.profiling.timing import Timings, median_ranks, summary


class Sleeper(nn.Module):
    """Takes as long as it is told, call by call, on a clock that only it moves, and writes down that it was called."""

    now = 0.0

    def __init__(self, seconds, log=None):
        super().__init__()
        self.seconds, self.log = seconds, [] if log is None else log

    def forward(self, inputs):
        self.log.append(self)
        Sleeper.now += self.seconds(len(self.log)) if callable(self.seconds) else self.seconds
        return inputs


@pytest.fixture
def clock(monkeypatch):
    """Time goes on while a Sleeper works, and at no other moment: whoever else uses this machine changes nothing."""
    monkeypatch.setattr(timing.time, "perf_counter", lambda: Sleeper.now)


def timings(**seconds):
    return Timings({label: summary(values, batch_size=1) for label, values in seconds.items()}, "", {"machine": "", "dtype": ""})


def test_candidates_take_turns_and_every_other_round_runs_backwards():
    log = []
    short, long = Sleeper(0.001, log), Sleeper(0.01, log)
    profiling.measure({"short": short, "long": long}, torch.zeros(1, 1), budget_s=0, threads=1)
    assert log[:8] == [short, long] * 4                                # tried, then three rounds to warm up
    assert log[8:20] == [short, long, long, short] * 3                 # six rounds


def test_known_times_are_read(clock):
    found = profiling.measure({"short": Sleeper(0.002), "long": Sleeper(0.02)}, torch.zeros(4, 1), budget_s=0.3, threads=1)
    short, long = found["short"], found["long"]
    assert (short.latency_ms, long.latency_ms, long.p90_ms) == pytest.approx((2, 20, 20))
    assert long.throughput_img_s == pytest.approx(4 / 0.02)
    assert long.interval_ms == pytest.approx((20, 20)) and len(long.seconds) == long.rounds == 6
    ratio = found.ratio("long", "short")
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((10, 10, 10))


def test_a_wait_is_read_from_the_machines_own_clock():
    class Waits(nn.Module):
        def forward(self, inputs):
            time.sleep(0.005)
            return inputs
    assert profiling.measure({"waits": Waits()}, torch.zeros(1), budget_s=0, threads=1)["waits"].latency_ms >= 5


def test_it_ends_when_precise_and_says_so(clock):
    shares, steady = [], Sleeper(0.02)
    found = profiling.measure({"steady": steady}, torch.zeros(1), budget_s=30, threads=1, callback=shares.append)
    assert found["steady"].rounds == 6 and found.stopped == "every interval is within 2% of its median"
    assert shares == pytest.approx([0.02 * done / 30 for done in range(1, 6)] + [1])   # what waits for the end sees it


def test_it_ends_with_the_budget_and_says_so(clock):
    shares, uneven = [], Sleeper(lambda call: 0.01 + 0.02 * (call % 2))
    found = profiling.measure({"uneven": uneven}, torch.zeros(1), budget_s=0.2, threads=1, callback=shares.append)
    assert found.stopped == "stopped after 0.2 s, before every interval was within 2%" and found["uneven"].rounds == 10
    assert shares[-1] == 1 and max(shares[:-1]) < 1


@pytest.mark.parametrize("limit", [dict(budget_s=0), dict(budget_s=30, max_rounds=6)])
def test_an_uneven_model_is_tried_six_times_and_no_more_where_no_more_is_allowed(clock, limit):
    uneven = Sleeper(lambda call: 0.01 + 0.02 * (call % 2))
    shares = []
    assert profiling.measure({"uneven": uneven}, torch.zeros(1), threads=1, callback=shares.append, **limit)["uneven"].rounds == 6
    assert all(0 <= share <= 1 for share in shares) and shares[-1] == 1


def test_p90_and_median_are_those_of_the_samples():
    one = summary([value / 1e3 for value in range(1, 101)], batch_size=8)
    assert (one.latency_ms, one.p90_ms, one.throughput_img_s) == pytest.approx((50.5, 90, 8 / 0.0505))


def test_a_ratio_is_taken_within_rounds_so_a_drift_does_not_widen_it():
    drift = [1.5**turn for turn in range(12)]                      # the machine slows down by half in every round
    ratio = timings(slow=[2 * value for value in drift], fast=drift).ratio("slow", "fast")
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2)) and str(ratio) == "2.00x (2.00 to 2.00)"


def test_too_noisy_a_machine_gives_no_ratio():
    ratio = timings(one=[1, 5, 1, 5, 1, 5, 1, 5], two=[5, 1, 5, 1, 5, 1, 5, 1]).ratio("one", "two")
    assert ratio.value is None and str(ratio).startswith("no ratio: this machine is too noisy")


@pytest.mark.parametrize("widest, value", [(1.5, 1.25), (1.51, None), (2.9, None)])
def test_a_ratio_is_given_up_to_an_interval_of_one_and_a_half(widest, value):
    ratio = timings(one=[1, 1.1, 1.2, 1.3, 1.4, widest], two=[1.0] * 6).ratio("one", "two")
    assert (ratio.low, ratio.high) == (1, widest) and ratio.value == (value and pytest.approx(value))


def test_the_table_names_every_candidate_the_machine_and_why_it_ended():
    found = profiling.measure({"a": nn.Identity(), "b": nn.Linear(3, 3)}, torch.zeros(2, 3), budget_s=0.1, threads=1)
    lines = found.table(base="a").splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["a", "b"] and lines[3] == f"b / a: {found.ratio('b', 'a')}"
    assert found["a"].machine in lines[4] and "float32" in lines[4] and lines[5] == found.stopped


def test_each_label_may_have_a_batch_of_its_own():
    seen = []
    model = nn.Identity()
    model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    profiling.measure({"a": model, "b": model}, {"a": torch.zeros(2), "b": torch.zeros(3)}, budget_s=0)
    assert set(seen) == {2, 3}


def test_the_faster_number_of_threads_is_taken_named_and_set_back(monkeypatch, clock):
    now = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[-1])
    monkeypatch.setattr(torch, "set_num_threads", now.append)
    model = Sleeper(lambda _: 0.002 if now[-1] == 1 else 0.01)        # beside a busy neighbour: one thread is faster
    found = profiling.measure({"model": model}, torch.zeros(1), budget_s=0)
    tried = found.conditions["threads_tried_ms"]
    assert found.conditions["threads"] == 1 and tried[1] < tried[2] and now[-1] == 2


def test_models_are_left_as_they_were_also_after_an_exception():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    model[0].eval()
    for inputs in (torch.zeros(1, 3), torch.zeros(1, 4)):
        try:
            profiling.measure({"model": model}, inputs, budget_s=0)
        except LabError as error:
            assert "'model' does not take inputs of shape (1, 4)" in str(error)
        assert [module.training for module in model.modules()] == [True, False, True]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_time_names_the_threads_that_it_was_taken_with():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = profiling.measure({"a": nn.Linear(3, 3)}, torch.zeros(1, 3), budget_s=0, threads=1)
    finally:
        torch.set_num_threads(before)
    assert found["a"].machine == found.conditions["machine"] and found["a"].machine.endswith(", 1 thread")


def test_a_model_in_half_precision_is_given_inputs_of_its_type():
    found = profiling.measure({"half": nn.Linear(3, 3).bfloat16()}, torch.zeros(1, 3), budget_s=0, threads=1)
    assert found.conditions["dtype"] == "bfloat16"


@pytest.mark.parametrize("count", [6, 10, 25, 100])
def test_ranks_hold_the_median_with_95_percent_and_no_narrower_pair_does(count):
    low, high = median_ranks(count)
    def coverage(rank):
        return sum(comb(count, k) for k in range(rank + 1, count - rank)) / 2**count
    assert high == count - 1 - low
    assert coverage(low) >= 0.95 > coverage(low + 1)


def test_nothing_to_time_is_refused():
    with pytest.raises(LabError, match="no models"):
        profiling.measure({}, torch.zeros(1))
    with pytest.raises(LabError, match="no batch for 'b'"):
        profiling.measure({"b": nn.Identity()}, {"a": torch.zeros(1)})
    with pytest.raises(LabError, match="'a' holds no image"):
        profiling.measure({"a": nn.Identity()}, torch.zeros(0, 3, 32, 32))


def test_the_estimate_of_a_ratio_without_a_value_is_the_geometric_middle_of_its_interval():
    assert timing.Ratio(None, 1.0, 4.0).estimate == (2.0, 1.0, 4.0)
    assert timing.Ratio(1.5, 1.0, 4.0).estimate == (1.5, 1.0, 4.0)
