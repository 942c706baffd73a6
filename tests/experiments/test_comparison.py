import pytest
import torch

from lightvit_lab import data, models
from lightvit_lab.experiments.comparison import compare

CANDIDATES = {
    "narrow": ("lab_vit_student", {"patch_size": 8, "dim": 16, "depth": 1, "num_heads": 2}, {"lr": 1e-2}),
    "CNN": ("lab_cnn", {"widths": (8, 16), "stem_stride": 2}, {"lr": 1e-3}),
}
SETTINGS = {"steps": 2, "batch_size": 8, "checks": 2, "threads": 1, "progress": False}


@pytest.fixture(scope="module")
def rows():
    splits = {split: data.load("shapes", split, count=16) for split in data.SPLITS}
    return {times: compare(CANDIDATES, splits, seeds=(0, 1), **SETTINGS) for times in ("once", "again")}


def test_a_row_says_what_was_trained_and_what_it_costs(rows):
    for label, (name, arguments, own) in CANDIDATES.items():
        row = rows["once"][label]
        assert (row["model"], row["arguments"], row["lr"]) == (name, arguments, own["lr"])
        assert row["params"] == sum(value.numel() for value in models.create_model(name, **arguments).parameters())
        assert row["macs"] > row["params"]          # both share their weights among places


def test_each_seed_has_a_run_scored_on_the_way_and_at_the_end(rows):
    for row in rows["once"].values():
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        for run in row["runs"]:
            assert [step for step, _ in run["validation"]] == [1, 2]
            assert run["test_low"] <= run["test"] <= run["test_high"]
            assert run["cpu_seconds"] >= 0


def test_a_seed_gives_the_same_run_again(rows):
    def scores(comparison):
        return [(run["test"], run["validation"]) for row in comparison.values() for run in row["runs"]]

    assert scores(rows["once"]) == scores(rows["again"])


def test_seeds_and_learning_rates_of_its_own_reach_the_training(monkeypatch):
    seen = []

    def fit(model, train, **settings):
        seen.append((settings["seed"], settings["lr"], torch.initial_seed()))
        return type("History", (), {"seconds": 0.0, "scores": []})()

    monkeypatch.setattr("lightvit_lab.training.fit", fit)
    splits = {split: data.load("shapes", split, count=8) for split in data.SPLITS}
    compare(CANDIDATES, splits, seeds=(3,), **SETTINGS)
    assert seen == [(3, 1e-2, 3), (3, 1e-3, 3)]
