"""The study of early exits: rows as they say, costs that are those of what was computed. A small run on the digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import models, profiling
from lightvit_lab.dynamic.early_exit.exits import add_exits, with_rule
from lightvit_lab.dynamic.early_exit.rules import Confidence
from lightvit_lab.dynamic.early_exit.token_halting import add_halting
from lightvit_lab.experiments import adaptive_depth, early_exit

SIZE = (3, 32, 32)


def small():
    torch.manual_seed(0)
    return models.create_model("lab_vit_student", dim=32, depth=4).eval()


@pytest.fixture(scope="module")
def found(put_base, tmp_path_factory):
    """A study of two steps on an untrained model; runs are cached in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        put_base(patch, tmp_path_factory.mktemp("runs"), depth=4)
        few = {"steps": 2, "batch_size": 16, "precision": "float32", "attention": "fused", "progress": False}
        for name, value in {"LAYERS": (0, 1, 2), "VALIDATION": 64,
                            "STAGES": {"exits alone": {**few, "whole": False}, "all together": {**few, "whole": True}},
                            "THRESHOLDS": (0.1, 1.0), "TIMED": {1: 4, 32: 33},
                            "TIMING_S": 0.1}.items():
            patch.setattr(early_exit, name, value)
        patch.setattr(adaptive_depth, "TRAINING", few)
        (study,) = early_exit.STUDIES
        rows = {label: dataclasses.replace(row, seeds=(0,)) for label, row in early_exit.ROWS.items()}
        return dataclasses.replace(study, rows={**rows, **adaptive_depth.ROWS})()


def test_each_way_of_training_has_all_exits_and_all_rules(found):
    ways = {(row["stage"], row["teaching"]) for row in found["rows"]}
    assert ways == {(stage, teaching) for stage in early_exit.STAGES for teaching in early_exit.TEACHING}
    assert len(found["exits"]) == 4 * 4 and len(found["rows"]) == 4 * 5 and len(found["frontier"]) == 4 * 2
    assert {row["label"] for row in found["rows"]} == {"as accurate", "half of the cost", "2 agree", "3 agree",
                                                       "nobody leaves"}


def test_exits_trained_alone_leave_the_end_as_it_was(found):
    ends = {(row["stage"], row["test"]) for row in found["exits"] if row["exit"] == 3}
    assert ("exits alone", found["dense"]["test"]) in ends
    assert [row["macs"] for row in found["exits"][:4]] == found["exit_macs"] == sorted(found["exit_macs"])


def test_a_threshold_nobody_reaches_costs_all_exits_and_one_that_all_reach_the_first_alone(found):
    low, high = found["frontier"][:2]
    assert low["shares"] == [1, 0, 0, 0] and low["macs"] == found["exit_macs"][0]
    assert high["shares"] == [0, 0, 0, 1] and high["macs"] == found["exit_macs"][-1] > found["dense"]["macs"]


def test_the_first_seed_was_timed_in_both_batches_beside_all_exits_computed(found):
    timed = [row for row in found["rows"] if "speedup" in row]
    assert {row["teaching"] for row in timed} == {"taught by the end"} and len(timed) == 10
    for one in [*timed, *found["afterwards"].values()]:
        assert {"latency_ms", "latency_1_ms", "speedup_1", "timed_macs", "timed_macs_1"} <= set(one)
    assert found["afterwards"]["exits alone"]["timed_macs"] == found["exit_macs"][-1]
    assert found["dense"]["timed_macs"] == found["dense"]["macs"]


def test_tokens_that_halt_and_blocks_that_are_skipped_have_a_row_each(found):
    halting, skipping = found["depth"]
    assert (halting["method"], skipping["method"]) == ("halting", "skipping")
    assert halting["entering"][0] == 65 and skipping["entering"][0] == 1 and len(skipping["entering"]) == 4


def test_what_was_looked_at_afterwards_says_what_the_pictures_that_left_said():
    torch.manual_seed(1)
    inputs, exits = torch.randn(9, *SIZE), add_exits(small(), [0, 1])
    with torch.no_grad():
        first = next(exits.eval().each(inputs)).softmax(1).amax(1)
        leaving = with_rule(exits, Confidence(first.median().item()))
        logits, taken = leaving.leave(inputs)
        assert len(taken.unique()) > 1
        assert torch.allclose(early_exit.AllExits(leaving)(inputs), logits, atol=1e-5)
        assert torch.allclose(early_exit.InBatches(leaving, 2)(inputs), logits, atol=1e-5)


def test_where_no_token_halts_the_cost_is_what_the_profiler_counts():
    model = small()
    kept = torch.full((2, 4), 65)
    counted = profiling.count(add_halting(model, start=1e-6), SIZE).macs
    assert adaptive_depth.halted_macs(model, kept).tolist() == pytest.approx([counted] * 2, rel=1e-3)
    fewer = adaptive_depth.halted_macs(model, torch.tensor([[65, 20, 20, 0]]))
    assert fewer[0] < counted - adaptive_depth.block_macs(model, 65)


def test_a_block_costs_what_the_model_is_cheaper_by_without_it():
    model, shut = small(), small()
    del shut.blocks[2], shut.blocks[1]
    counted = profiling.count(model, SIZE).macs - profiling.count(shut, SIZE).macs
    assert 2 * adaptive_depth.block_macs(model, 65) == counted
