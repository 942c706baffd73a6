"""The study of early exits: rows as they say, costs that are those of what was computed. A small run on the digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import data, models, profiling
from lightvit_lab.dynamic.early_exit import report
from lightvit_lab.dynamic.early_exit.exits import add_exits, with_rule
from lightvit_lab.dynamic.early_exit.rules import Confidence, Entropy, exits_taken
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
        rows = {label: dataclasses.replace(row, seeds=(0,)) for label, row in study.rows.items()}
        return dataclasses.replace(study, rows=rows)()


def runs_of(found, **wanted):
    return [run for run in found["runs"] if all(run.get(key) == value for key, value in wanted.items())]


def test_each_way_of_training_has_all_exits_and_all_rules(found):
    ways = [(run["stage"], run["label"]) for run in found["runs"] if "exits" in run]
    labels = (early_exit.LABELS, early_exit.TAUGHT, early_exit.LGVIT)
    assert sorted(ways) == sorted((stage, label) for stage in early_exit.STAGES for label in labels)
    for run in found["runs"]:
        if "exits" in run:
            assert len(run["exits"]) == 4 and len(run["frontier"]) == 2
            assert [row["label"] for row in run["rules"]] == [
                "2 agree", "3 agree", "as accurate", "as accurate, entropy", "half way", "half way, entropy",
                "as cheap as 2 agree", "as cheap as 2 agree, entropy", "as cheap as 3 agree",
                "as cheap as 3 agree, entropy", "nobody leaves"]


def test_exits_trained_alone_leave_the_end_as_it_was_and_training_together_begins_with_a_fresh_copy(found):
    for run in runs_of(found, stage="exits alone"):
        assert run["exits"][-1]["test"] == run["test"] == found["dense"]["test"]
        assert [row["macs"] for row in run["exits"]] == run["exit_macs"] == sorted(run["exit_macs"])
    steps = {stage: settings["steps"] for stage, settings in early_exit.STAGES.items()}
    assert steps["exits alone"] == steps["all together"] == adaptive_depth.TRAINING["steps"]


def test_each_training_begins_with_the_weights_that_were_stored_whatever_was_trained_before(monkeypatch):
    begins, model = [], small()

    def spoil(exits, *_, **__):
        weight = exits.model.blocks[0].mlp.fc1.weight
        begins.append(weight.detach().clone())
        weight.data.zero_()
        raise StopIteration

    for owner, name, value in ((early_exit.base, "model", lambda: model), (early_exit, "train_exits", spoil),
                               (early_exit.data, "load", lambda *_, **__: None),
                               (early_exit, "LAYERS", (0, 1, 2))):
        monkeypatch.setattr(owner, name, value)
    for stage in early_exit.STAGES:
        with pytest.raises(StopIteration):
            early_exit.trained_exits(stage, 0, 1.0, "linear")
    assert len(begins) == 2 and torch.equal(*begins) and begins[0].abs().sum() > 0


def test_the_control_is_trained_by_the_settings_of_all_together_and_has_no_exits(found):
    (control,) = runs_of(found, label="without exits")
    assert control["stage"] == "all together" and "exits" not in control
    whole = {name: value for name, value in early_exit.STAGES["all together"].items() if name != "whole"}
    assert whole == adaptive_depth.TRAINING


def test_rules_that_read_probabilities_cost_on_validation_pictures_no_more_than_those_that_wait(found, monkeypatch):
    said, macs = torch.randn(3, 64, 10, generator=torch.Generator().manual_seed(0)) * 3, (1, 2, 3)
    pictures = data.load("digits", "val", count=64)
    for name, value in {"every_logit": lambda *_: said, "exit_macs": lambda *_: macs, "_pictures": lambda *_: pictures}.items():
        monkeypatch.setattr(early_exit, name, value)
        if name != "_pictures":
            monkeypatch.setattr(report, name, value)
    monkeypatch.setattr(early_exit, "LAYERS", (0, 1))
    rules = early_exit.calibrated(add_exits(small(), [0, 1]))
    cost = {label: torch.tensor(macs)[exits_taken(rule, said)].double().mean().item() for label, rule in rules.items()}
    assert cost["as cheap as 2 agree"] <= cost["2 agree"] >= cost["as cheap as 2 agree, entropy"]
    assert isinstance(rules["as cheap as 2 agree, entropy"], Entropy) and cost["half way"] <= 2


def test_a_threshold_nobody_reaches_costs_all_exits_and_one_that_all_reach_the_first_alone(found):
    run = runs_of(found, stage="exits alone")[0]
    low, high = run["frontier"]
    assert low["shares"] == [1, 0, 0, 0] and low["macs"] == run["exit_macs"][0]
    assert high["shares"] == [0, 0, 0, 1] and high["macs"] == run["exit_macs"][-1] > found["dense"]["macs"]


def test_the_first_seed_was_timed_in_both_batches_beside_all_exits_computed(found):
    timed = [run for run in found["runs"] if run.get("times")]
    assert {(run["stage"], run["label"]) for run in timed} == {
        (stage, early_exit.TAUGHT) for stage in early_exit.STAGES}
    for run in timed:
        assert [*run["times"]] == ["no exits", *early_exit.TIMED_RULES, "looked at afterwards"]
        assert all({"latency_ms", "latency_1_ms", "speedup_1", "timed_macs", "timed_macs_1"} <= set(one)
                   for one in run["times"].values())
        assert run["times"]["looked at afterwards"]["timed_macs"] == run["exit_macs"][-1]
        assert run["times"]["no exits"]["timed_macs"] == found["dense"]["macs"]


def test_tokens_that_halt_and_parts_that_are_skipped_have_a_row_each(found):
    halting, skipping, whole = (runs_of(found, label=label)[0] for label in adaptive_depth.ROWS)
    assert halting["entering"][0] == 65 and len(halting["entering"]) == 4
    assert skipping["entering"][:2] == whole["entering"][:2] == [1, 1] and len(skipping["entering"]) == 8
    assert whole["entering"][::2] == whole["entering"][1::2]           # one gate for both parts


def test_the_stem_and_the_end_are_what_no_block_costs(found):
    assert 0 < found["dense"]["stem_macs"] == found["dense"]["macs"] - 4 * adaptive_depth.block_macs(small(), 65)


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
    counted = profiling.count(add_halting(model, 0.1, 20), SIZE).macs
    assert adaptive_depth.halted_macs(model, kept).tolist() == pytest.approx([counted] * 2, rel=1e-3)
    fewer = adaptive_depth.halted_macs(model, torch.tensor([[65, 20, 20, 0]]))
    assert fewer[0] < counted - adaptive_depth.block_macs(model, 65)


def test_attention_and_mlp_cost_what_their_layers_and_products_cost():
    """dim 32 and MLPs of four times that: 4 layers of 32 x 32, two products of 65 x 65 x 32; 2 layers of 32 x 128."""
    assert adaptive_depth.part_macs(small(), 65) == (65 * 4 * 32 * 32 + 2 * 65 * 65 * 32, 65 * 2 * 32 * 128)


def test_a_block_costs_what_the_model_is_cheaper_by_without_it():
    model, shut = small(), small()
    del shut.blocks[2], shut.blocks[1]
    counted = profiling.count(model, SIZE).macs - profiling.count(shut, SIZE).macs
    assert 2 * adaptive_depth.block_macs(model, 65) == counted
