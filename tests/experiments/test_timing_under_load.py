import multiprocessing
import time

import torch

from lightvit_lab.experiments import results, timing_under_load


class Slower(torch.nn.Module):
    """Each call is slower than the one before by the same time: a machine that gets busier."""

    calls = 0

    def forward(self, inputs):
        self.calls += 1
        time.sleep(self.calls * 2e-4)
        return inputs


def test_a_machine_that_gets_busier_is_blamed_on_the_second_of_two_means():
    calls = timing_under_load.CALLS
    ratio = timing_under_load.mean_ratio(Slower(), torch.zeros(1))
    # means of 1..15 and 16..30 steps: 8 / 23 = 0.35, were each sleep exact
    assert ratio < 0.8 and calls == 15


def test_one_by_one_is_timed_on_one_thread_in_eval_mode_and_leaves_threads_and_mode_as_they_were():
    class Seen(torch.nn.Module):
        def forward(self, inputs):
            seen.add((torch.get_num_threads(), self.training))
            return inputs

    seen, model, before = set(), Seen(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        timing_under_load.mean_ratio(model, torch.zeros(1))
        assert seen == {(1, False)} and (torch.get_num_threads(), model.training) == (2, True)
    finally:
        torch.set_num_threads(before)


def test_in_turns_says_ratio_and_interval_of_no_more_calls():
    found = timing_under_load.ratio_in_turns(torch.nn.Linear(8, 8), torch.randn(2, 8))
    assert set(found) == {"ratio", "low", "high"} and 0 < found["low"] <= found["high"]


def test_neighbours_work_until_the_end_and_no_longer():
    before = {process.pid for process in multiprocessing.active_children()}
    with timing_under_load.neighbours(1):
        new = [process for process in multiprocessing.active_children() if process.pid not in before]
        assert len(new) == 1 and new[0].is_alive()
    assert not any(process.is_alive() for process in new)


def test_the_stored_run_shows_that_turns_stay_near_one_where_means_stray():
    busy = results.load("timing_under_load").data["conditions"]["busy neighbours added"]
    given = [trial["ratio"] for trial in busy["in_turns"] if trial["ratio"]]
    assert max(busy["one_by_one"]) - min(busy["one_by_one"]) > 2 * (max(given) - min(given))
    assert len(busy["one_by_one"]) == len(busy["in_turns"]) == timing_under_load.TRIALS
