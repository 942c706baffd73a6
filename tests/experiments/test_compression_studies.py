"""The studies of pruning and low rank: rows as they say, runs kept, times beside the dense model. Small runs on digits."""

import pytest
import torch

from lightvit_lab import models, profiling
from lightvit_lab.compression import low_rank, pruning, sparsity
from lightvit_lab.experiments import compression, keeping
from lightvit_lab.profiling import timing

KEYS = {"label", "recipe", "method", "part", "ratio", "stage", "seed", "test", "test_low", "test_high", "zeros", "bytes",
        "params", "macs", "latency_ms", "interval_ms", "speedup", "output_error"}
ROWS = {
    "half": compression.Row(((pruning.prune_mlp, {"ratio": 0.5}),), {"method": "magnitude", "part": "mlp", "ratio": 0.5},
                            ("one-shot", "compensated", "fine-tuned")),
    "zeros": compression.Row(((sparsity.prune_weights, {"ratio": 0.75}),), {"method": "magnitude", "part": "weights", "ratio": 0.75},
                             ("fine-tuned",)),
    "factors": compression.Row(((low_rank.factorize, {"budget": 0.5, "calibrated": True}),),
                               {"method": "activation-aware SVD", "part": "all", "ratio": None, "setting": "budget 0.5", "qkv": "joint"}),
}


@pytest.fixture
def found(monkeypatch, tmp_path):
    """A study of three rows on an untrained model and the digits; runs are kept in a folder of the test's own."""
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", dim=32, depth=2)
    fine_tuning = {"steps": 3, "batch_size": 16, "lr": 1e-3, "precision": "float32", "attention": "fused"}
    for name, value in {"teacher": lambda: model.eval(), "DATASET": "digits", "CALIBRATION": 16, "TEST": 100, "TIMING_S": 0.1,
                        "FINE_TUNING": fine_tuning, "STUDIES": {"tiny": compression.Study(ROWS)}}.items():
        monkeypatch.setattr(compression, name, value)
    monkeypatch.setattr(compression.zoo, "card", lambda name: {"sha256": name})
    monkeypatch.setattr(keeping.runtime, "cache", lambda: tmp_path)
    compression.calibration.cache_clear()
    yield compression.study("tiny")
    compression.calibration.cache_clear()


def test_every_row_has_its_stages_costs_and_time_beside_the_dense_model(found):
    assert [(row["label"], row["stage"]) for row in found["rows"]] == [
        ("half", "one-shot"), ("half", "compensated"), ("half", "fine-tuned"), ("zeros", "fine-tuned"), ("factors", "one-shot")]
    assert all(KEYS <= set(row) for row in found["rows"]) and found["dense"]["latency_ms"] > 0
    half, dense = found["rows"][0], found["dense"]
    assert half["params"] < dense["params"] and half["macs"] < dense["macs"] and half["bytes"] < dense["bytes"]
    assert half["recipe"] == "prune_mlp(ratio=0.5)" and half["test_low"] <= half["test"] <= half["test_high"]


def test_zeros_stay_zeros_while_the_model_is_fine_tuned_and_change_neither_bytes_nor_macs(found):
    zeros = next(row for row in found["rows"] if row["label"] == "zeros")
    assert zeros["zeros"] == pytest.approx(0.75, abs=1e-3) and zeros["macs"] == found["dense"]["macs"]
    assert zeros["bytes"] == pytest.approx(found["dense"]["bytes"], rel=0.01)


def test_factors_say_how_far_their_outputs_are_off(found):
    factors = found["rows"][-1]
    assert 0 < factors["output_error"] < 1 and factors["params"] < found["dense"]["params"]


def test_a_speedup_is_the_dense_time_over_its_own_and_its_geometric_middle_where_there_is_none():
    def timings(small):
        seconds = {"dense": (4.0,) * 6, "small": small}
        return profiling.Timings({label: timing.summary(times, 1) for label, times in seconds.items()}, "", {})

    assert compression.speed(timings((2.0,) * 6), "dense", "small") == {
        "latency_ms": 2000.0, "interval_ms": [2000.0, 2000.0], "speedup": [2.0, 2.0, 2.0]}
    noisy = compression.speed(timings((1.0, 1.0, 1.0, 2.0, 2.0, 4.0)), "dense", "small")
    assert noisy["speedup"] == [2.0, 1.0, 4.0]                             # between 4/4 and 4/1: the root of 1 x 4


def test_the_rows_of_the_book_have_every_kind_the_pages_speak_of():
    rows = compression.STUDIES["pruning_cifar10"].rows.values()
    assert {row.shown["part"] for row in rows} == {"mlp + heads", "mlp", "heads", "head width", "embedding", "blocks", "weights"}
    assert {"magnitude", "taylor", "fisher", "activation", "random", "wanda", "movement", "2:4"} == {row.shown["method"] for row in rows}
    factors = compression.STUDIES["low_rank_cifar10"].rows.values()
    assert {row.shown["method"] for row in factors} == {"SVD", "activation-aware SVD", "Linformer", "Nystroem"}
    assert {row.shown["qkv"] for row in factors} == {"joint", "split", "per_head", None}
