"""The studies of pruning and low rank: rows as they say, runs kept, times beside the dense model. Small runs on digits."""

import pytest

from lightvit_lab.compression.low_rank import factors as low_rank
from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity
from lightvit_lab.experiments import compression, kit

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
    assert {row.columns["part"] for row in rows} == {"mlp + heads", "mlp", "heads", "head width", "embedding", "blocks", "weights"}
    assert {"magnitude", "taylor", "fisher", "activation", "random", "wanda", "movement", "2:4"} == {row.columns["method"] for row in rows}
    factors = compression.LOW_RANK_ROWS.values()
    assert {row.columns["method"] for row in factors} == {"SVD", "activation-aware SVD", "Linformer", "Nystroem"}
    assert {row.columns["qkv"] for row in factors} == {"joint", "split", "per_head", None}
