"""The report says what happened; rules and temperatures are those that the stored logits call for."""

import pytest
import torch
from exit_models import small

from lightvit_lab import data, profiling
from lightvit_lab.dynamic.early_exit.exits import add_exits, with_rule
from lightvit_lab.dynamic.early_exit.report import (
    calibrate_confidence, calibrate_rule, every_logit, exit_macs, exit_report, reliability, trade_off)
from lightvit_lab.dynamic.early_exit.rules import Confidence, Entropy, Patience, confidence
from lightvit_lab.errors import LabError


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", "val", count=60)


@pytest.fixture(scope="module")
def exits():
    return add_exits(small(), [0, 2])


def test_bins_and_calibration_error_of_a_case_worked_by_hand():
    sure, right = torch.tensor([0.15, 0.25, 0.95, 0.85, 1.0]), torch.tensor([False, True, True, False, True])
    found = reliability(sure, right, bins=2)
    assert found.counts == (2, 3) and found.right == pytest.approx((0.5, 2 / 3))
    assert found.confidence == pytest.approx((0.2, 2.8 / 3))
    assert found.error == pytest.approx((2 * 0.3 + 3 * (2.8 / 3 - 2 / 3)) / 5)


def test_one_who_is_as_right_as_sure_has_no_calibration_error():
    right = torch.arange(100) < 70
    assert reliability(torch.full((100,), 0.7), right).error == pytest.approx(0, abs=1e-6)


def test_the_report_counts_every_picture_once_with_the_cost_of_its_exit(exits, shapes):
    threshold = confidence(every_logit(exits, shapes)[0]).quantile(0.6).item()
    model = with_rule(exits, Confidence(threshold))
    report = exit_report(model, shapes, batch_size=16)
    assert len(report.exits) == 60 and sum(report.counts) == 60 and 20 < report.counts[0] < 30
    assert report.mean_macs == pytest.approx(sum(c * m for c, m in zip(report.counts, report.macs)) / 60)
    assert report.score.accuracy == pytest.approx(report.right.float().mean().item())
    places = torch.cat([report.exited_at(place) for place in range(3)])
    assert sorted(places.tolist()) == list(range(60))
    first = report.confidence[report.exited_at(0)]
    assert (first >= threshold).all() and torch.equal(first, first.sort(descending=True).values)
    assert "final" in report.table() and "calibration error" in report.table()
    with torch.no_grad():
        assert torch.equal(report.right, model(shapes.inputs).argmax(1) == shapes.labels)


def test_the_cost_of_an_exit_is_all_that_runs_before_it(exits):
    parts, whole = (profiling.count(small(), (3, 32, 32)).by_module, profiling.count(small(), (3, 32, 32)).macs)
    head, block = parts["head"], parts["blocks.0"]
    stem = whole - 4 * block - head
    assert exit_macs(exits, (3, 32, 32)) == (stem + block + head, stem + 3 * block + 2 * head, whole + 2 * head)


def test_the_calibrated_rule_does_to_the_running_model_what_was_promised(exits, shapes):
    cheapest, dearest = exit_macs(exits, (3, 32, 32))[0], exit_macs(exits, (3, 32, 32))[-1]
    point = calibrate_rule(exits, shapes, mean_macs=(cheapest + dearest) / 2)
    report = exit_report(with_rule(exits, point.rule), shapes)
    assert report.mean_macs == pytest.approx(point.mean_macs) and report.score.accuracy == pytest.approx(point.accuracy)
    assert cheapest <= point.mean_macs <= (cheapest + dearest) / 2
    best = max(one.accuracy for one in trade_off(exits, shapes))
    wanted = calibrate_rule(exits, shapes, accuracy=best)
    assert wanted.accuracy == best
    assert all(one.mean_macs >= wanted.mean_macs for one in trade_off(exits, shapes) if one.accuracy >= best)


def test_thresholds_of_entropy_reach_what_the_rule_itself_gives_on_the_pictures(exits, shapes):
    points = trade_off(exits, shapes, Entropy)
    assert points[0].mean_macs == exit_macs(exits, (3, 32, 32))[0]
    assert points[-1].mean_macs == exit_macs(exits, (3, 32, 32))[-1] and points[-1].rule == Entropy(0.0)
    point = calibrate_rule(exits, shapes, mean_macs=(points[0].mean_macs + points[-1].mean_macs) / 2, rule=Entropy)
    report = exit_report(with_rule(exits, point.rule), shapes)
    assert isinstance(point.rule, Entropy) and len(report.exits.unique()) > 1
    assert report.mean_macs == pytest.approx(point.mean_macs) and report.score.accuracy == pytest.approx(point.accuracy)


def test_calibrated_exits_name_the_same_classes_with_less_loss_on_the_pictures(exits, shapes):
    before, scaled = every_logit(exits, shapes), calibrate_confidence(exits, shapes)
    after = every_logit(scaled, shapes)
    assert torch.equal(after.argmax(2), before.argmax(2)) and torch.equal(after[-1], before[-1])
    loss = torch.nn.functional.cross_entropy
    for one, two in zip(after[:-1], before[:-1]):
        assert loss(one, shapes.labels) < loss(two, shapes.labels)
        assert all(loss(one, shapes.labels) <= loss(two / t, shapes.labels) + 2e-3 for t in (0.5, 1, 2, 4, 8))
    assert scaled.recipe == exits.recipe and [head.temperature.item() for head in exits.exits] == [1, 1]


@pytest.mark.parametrize("call, says", [
    (lambda exits, shapes: calibrate_rule(exits, shapes), "exactly one"),
    (lambda exits, shapes: calibrate_rule(exits, shapes, accuracy=0.9, mean_macs=1e6), "exactly one"),
    (lambda exits, shapes: calibrate_rule(exits, shapes, accuracy=1.0), "the best is"),
    (lambda exits, shapes: calibrate_rule(exits, shapes, accuracy=1.5), "accuracy <= 1"),
    (lambda exits, shapes: calibrate_rule(exits, shapes, mean_macs=1.0), "the cheapest is"),
    (lambda exits, shapes: trade_off(exits, shapes, Patience), "Give one of: Confidence, Entropy"),
    (lambda exits, shapes: exit_report(small(), shapes), "has no exits"),
    (lambda exits, shapes: exit_report(exits, shapes, batch_size=0), "batch_size"),
], ids=range(8))
def test_what_cannot_be_reported_or_reached_is_refused_with_what_can(exits, shapes, call, says):
    with pytest.raises(LabError, match=says):
        call(exits, shapes)
