"""A run, or a measurement, that is looked at is the same run."""

import time

import pytest
import torch

from lightvit_lab import data, models, profiling, training

TRAIN, TEST = data.load("shapes", count=64), data.load("shapes", "test", count=32)


def fit(**settings):
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", depth=1)
    return training.fit(model, TRAIN, steps=6, batch_size=8, threads=1, progress=False, precision="float32",
                        attention="fused", validation=TEST, checks=2, **settings)


def test_a_watched_run_has_the_losses_of_one_that_is_not_and_is_told_after_each_read():
    seen = []
    watched = fit(callback=lambda history, steps: seen.append((len(history.loss), len(history.scores), steps)))
    plain = fit()
    assert watched.loss == plain.loss and watched.scores == plain.scores
    assert seen == [(1, 0, 6), (2, 0, 6), (3, 1, 6), (4, 1, 6), (5, 1, 6), (6, 2, 6)]


def test_looking_is_not_counted_as_training():
    assert fit(callback=lambda *_: time.sleep(0.5)).seconds < 2.5


def test_whoever_watches_may_end_the_run():
    def stop(*_):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        fit(callback=stop)


@pytest.mark.parametrize("budget_s", [0.0, 0.2])
def test_a_measurement_tells_the_share_of_its_budget_after_each_round(budget_s):
    seen = []
    layer = torch.nn.Linear(8, 8)
    found = profiling.measure({"one": layer}, torch.randn(1, 8), budget_s=budget_s, threads=1, callback=seen.append)
    assert len(seen) == found["one"].rounds >= 6 and seen == sorted(seen) and 0 <= seen[0] and seen[-1] <= 1
