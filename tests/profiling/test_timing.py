import time
from math import comb

import pytest
import torch
from torch import nn

from lightvit_lab import profiling
from lightvit_lab.errors import LabError
from lightvit_lab.profiling.timing import median_ranks


class _Sleeper(nn.Module):
    def __init__(self, seconds, log):
        super().__init__()
        self.seconds, self.log = seconds, log

    def forward(self, inputs):
        self.log.append(self.seconds)
        time.sleep(self.seconds)
        return inputs


def test_candidates_take_turns_and_known_times_are_read():
    log = []
    times = profiling.measure({"short": _Sleeper(0.002, log), "long": _Sleeper(0.02, log)}, torch.zeros(4, 1), budget_s=0.3)
    assert log == [0.002, 0.02] * (len(log) // 2)
    assert 2 <= times["short"].latency_ms < 20 <= times["long"].latency_ms
    assert times["long"].throughput_img_s == pytest.approx(4e3 / times["long"].latency_ms)
    assert times["long"].interval_ms[0] <= times["long"].latency_ms <= times["long"].interval_ms[1]


def test_each_label_may_have_a_batch_of_its_own():
    seen = []
    model = nn.Identity()
    model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    profiling.measure({"a": model, "b": model}, {"a": torch.zeros(2), "b": torch.zeros(3)}, budget_s=0, max_rounds=5)
    assert set(seen) == {2, 3}


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
