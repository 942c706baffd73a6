import pytest
import torch

from lightvit_lab import models
from lightvit_lab.experiments.comparison import candidate, comparison

CANDIDATES = {
    "narrow": ("lab_vit_student", {"patch_size": 8, "dim": 16, "depth": 1, "num_heads": 2}, {"lr": 1e-2}),
    "CNN": ("lab_cnn", {"widths": [8, 16], "stem_stride": 2}, {"lr": 1e-3}),
}
SETTINGS = {"steps": 2, "batch_size": 8, "checks": 2, "threads": 1, "progress": False}


def study(seeds, count=16, **changes):
    rows = {label: candidate(name, arguments, seeds, **own) for label, (name, arguments, own) in CANDIDATES.items()}
    return comparison("trial", "shapes", rows, lambda splits, rows: {"rows": rows}, {**SETTINGS, **changes}, count=count)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The same study twice, each with a cache of its own."""
    found = {}
    for times in ("once", "again"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LIGHTVIT_CACHE", str(tmp_path_factory.mktemp(times)))
            found[times] = study((0, 1))()["rows"]
    return found


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


def test_seeds_and_learning_rates_of_its_own_reach_the_training(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    seen = []

    def fit(model, train, **settings):
        seen.append((settings["seed"], settings["lr"], torch.initial_seed()))
        return type("History", (), {"seconds": 0.0, "scores": []})()

    monkeypatch.setattr("lightvit_lab.training.fit", fit)
    study((3,))()
    assert seen == [(3, 1e-2, 3), (3, 1e-3, 3)]
    study((3,))()
    assert len(seen) == 2, "runs are cached"
    study((3,), count=8)(), study((3,), steps=3)()
    assert len(seen) == 6, "other pictures and other settings are other runs"
