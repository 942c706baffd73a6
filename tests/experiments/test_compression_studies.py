"""The studies of pruning and low rank: rows as they say, runs kept, times beside the dense model. Small runs on digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import data, figures, training
from lightvit_lab.compression.low_rank import factors as low_rank
from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity
from lightvit_lab.experiments import base, compression, kit

KEYS = {"label", "recipe", "method", "part", "ratio", "stage", "seed", "test", "test_low", "test_high", "zeros", "bytes",
        "params", "macs", "latency_ms", "interval_ms", "speedup", "output_error"}
ROWS = {
    "half": kit.Row({"method": "magnitude", "part": "mlp", "ratio": 0.5}, ((pruning.prune_mlp, {"ratio": 0.5}),),
                    ("one-shot", "compensated", "fine-tuned")),
    "zeros": kit.Row({"method": "magnitude", "part": "weights", "ratio": 0.75},
                     ((sparsity.prune_weights, {"ratio": 0.75}),), ("fine-tuned",)),
    "factors": kit.Row({"method": "activation-aware SVD", "part": "all", "ratio": None, "setting": "budget 0.5",
                        "qkv": "joint"}, ((low_rank.factorize, {"budget": 0.5, "calibrated": True}),), ("one-shot",)),
}


@pytest.fixture(scope="module")
def found(put_base, tmp_path_factory):
    """A study of three rows on an untrained model and the digits, made once; its runs are cached in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        put_base(patch, tmp_path_factory.mktemp("runs"), depth=2)
        for name, value in {"CALIBRATION": 16, "TIMING_S": 0.1}.items():
            patch.setattr(compression, name, value)
        compression.calibration.cache_clear()
        yield kit.Study("tiny", compression.result, ROWS, compression.run, compression.key, "compression")()
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


def test_the_rows_of_the_book_have_every_kind_the_pages_speak_of():
    rows = compression.PRUNING_ROWS.values()
    assert {row.columns["part"] for row in rows} == {"mlp + heads", "mlp", "heads", "head width", "embedding", "blocks", "weights", "none"}
    assert {"magnitude", "taylor", "fisher", "activation", "random", "wanda", "movement", "2:4", "flap", "dense"} == {row.columns["method"] for row in rows}
    factors = compression.LOW_RANK_ROWS.values()
    assert {row.columns["method"] for row in factors} == {"SVD", "activation-aware SVD", "Linformer", "Nystroem", "dense"}
    assert {row.columns["qkv"] for row in factors} == {"joint", "split", "per_head", None}


@pytest.fixture
def small(put_base, monkeypatch, tmp_path):
    """An untrained model and the digits in the place of both zoo models."""
    put_base(monkeypatch, tmp_path, depth=2)
    for name, value in {"CALIBRATION": 16, "SCORED_ON": {"digits": 96}, "_whole": lambda dataset: base.model()}.items():
        monkeypatch.setattr(compression, name, value)
    compression.calibration.cache_clear()
    yield base.model()
    compression.calibration.cache_clear()


def accuracy(model, split="test", count=96):
    return round(training.evaluate(model, data.load("digits", split, count=count)).accuracy, 4)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_seed_is_a_draw_of_what_goes_at_random_and_of_the_calibration_pictures(small, seed):
    inputs, labels = data.load("digits").batch(
        torch.randperm(len(data.load("digits")), generator=torch.Generator().manual_seed(seed))[:16])
    for way, pictures in (("random", 0), ("fisher", 0), ("magnitude", 4)):
        run = compression.run_draw(compression._draw_row("digits", 0.9, way, pictures), "", seed)
        few = (inputs[:pictures or 16], labels[:pictures or 16])
        by_hand = pruning.prune_mlp(small, 0.9, way, few, seed=seed, compensate=pictures > 0)
        assert run["test"] == accuracy(by_hand) and run["seed"] == seed
    row = kit.Row({"part": "mlp"}, ((pruning.prune_mlp, {"ratio": 0.5, "importance": "random"}),))
    kept = [compression.changed(small, row, one).recipe["plans"][-1]["kept"] for one in (seed, seed, seed + 1)]
    assert kept[0] == kept[1] != kept[2]


def test_chance_is_drawn_five_times_each_score_three_times_and_magnitude_that_draws_nothing_once():
    rows = compression._draw_rows()
    seeds = {label.rpartition(", ")[2]: row.seeds for label, row in rows.items() if not row.columns["pictures"]}
    assert seeds.pop("magnitude") == (0,) and seeds.pop("random") == (0, 1, 2, 3, 4) and set(seeds.values()) == {(0, 1, 2)}
    assert {row.columns["dataset"] for row in rows.values()} == {"cifar10", "shapes"}


def test_runs_of_wanda_from_one_pass_through_the_whole_model_are_not_taken_for_those_of_now(monkeypatch):
    monkeypatch.setattr(base, "mark", lambda: "card")
    row = compression.PRUNING_ROWS["zeros 50%, wanda"]
    before = dataclasses.replace(row, columns={**row.columns, "method": "magnitude"})     # a key without a version
    assert compression.key(row, "one-shot", 0)[:-1] == compression.key(before, "one-shot", 0)


def test_layers_are_scanned_beside_the_whole_model_on_the_same_validation_pictures(small, monkeypatch):
    monkeypatch.setattr(compression, "_validation", lambda: data.load("digits", "val", count=80))
    monkeypatch.setattr(compression, "TIMING_S", 0.1)
    found = compression.result(kit.Study("tiny", compression.result, {}), mlp=pruning.prune_mlp)
    assert found["sensitivity_dense"]["test"] == accuracy(small, "val", 80) and len(found["sensitivity"]) == 6
    assert "sensitivity_dense" not in compression.result(kit.Study("tiny", compression.result, {}))


def test_every_stage_that_trains_has_a_marker_in_the_figures():
    row = {"label": "a", "recipe": "", "test": 0.8, "test_low": 0.7, "test_high": 0.9}
    drawn = figures.stages([{**row, "stage": stage} for stage in base.TUNINGS], row)
    markers = {trace.name: trace.marker.symbol for trace in drawn.data}
    assert list(markers) == list(base.TUNINGS) and len({*markers.values()}) == len(markers)
