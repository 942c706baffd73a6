import dataclasses
import json

import numpy
import pytest
import torch
from scipy import stats

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import (centre_map, class_attention, edge_map, insertion_deletion, localization, localize,
                                  pointing_game, random_map)
from lightvit_lab.explain.localization import MEASURES


def student() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.create_model("lab_vit_student")


def test_scores_are_the_measures_of_the_maps_whatever_the_batch():
    model, pictures = student(), data.load("shapes", "test", count=7)
    found = localize(model, pictures, {"attention": class_attention, "centre": centre_map}, batch_size=3, steps=4)
    maps = class_attention(model, pictures.inputs)
    each = found.per_picture["attention"]
    assert torch.allclose(each["pointing"], pointing_game(maps, pictures.masks))
    expected = insertion_deletion(model, pictures.inputs, maps, steps=4)
    assert torch.allclose(each["insertion"], expected.insertion_auc, atol=1e-5)
    assert torch.allclose(each["deletion"], expected.deletion_auc, atol=1e-5)
    mean, low, high = found.scores["attention"]["insertion"]
    assert mean == pytest.approx(expected.insertion_auc.mean().item(), abs=1e-5) and low < mean < high
    assert found.chance == pytest.approx(pictures.masks.float().mean().item()) and found.count == 7


def test_a_map_that_is_the_mask_scores_full_and_a_random_one_scores_chance():
    pictures = data.load("shapes", "test", count=300)
    known = {picture.numpy().tobytes(): mask for picture, mask in zip(pictures.inputs, pictures.masks)}

    def oracle(model, inputs, target):
        return torch.stack([known[picture.numpy().tobytes()] for picture in inputs]).float()

    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 10))
    found = localize(model, pictures, {"oracle": oracle, "random": random_map()}, steps=1)
    assert [found.scores["oracle"][measure] for measure in ("pointing", "energy", "iou")] == [(1.0, 1.0, 1.0)] * 3
    mean, low, high = found.scores["random"]["pointing"]
    assert low < found.chance < high and high - low < 0.12


def test_intervals_are_those_of_scipy_s_percentile_bootstrap():
    values = torch.from_numpy(numpy.random.RandomState(0).beta(0.5, 1.0, (200, 2)))
    for (mean, low, high), column in zip(localization.bootstrap(values, seed=1), values.T.numpy()):
        theirs = stats.bootstrap((column,), numpy.mean, method="percentile", n_resamples=1000, rng=0)
        assert mean == pytest.approx(column.mean())
        assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)


def test_intervals_repeat_by_seed_and_one_picture_has_one_of_no_width():
    values = torch.rand(50, 3)
    assert localization.bootstrap(values, 3) == localization.bootstrap(values, 3) != localization.bootstrap(values, 4)
    assert localization.bootstrap(torch.tensor([[0.25]])) == [(0.25, 0.25, 0.25)]


def test_table_fits_a_page_and_the_dict_is_json():
    names = {"edges": edge_map, "an explainer of a very long name": centre_map}
    found = localize(student(), data.load("shapes", "test", count=4), names, steps=2)
    lines = found.table().splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= 80 and "an explainer of a .." in lines[3]
    assert all(measure in lines[1] for measure in MEASURES)
    stored = json.loads(json.dumps(found.as_dict()))
    mean, low, high = found.scores["edges"]["energy"]
    assert stored["scores"]["edges"]["energy"] == [round(mean, 4), round(low, 4), round(high, 4)]
    full = dataclasses.replace(found, scores={"all": {measure: (1.0, 1.0, 1.0) for measure in MEASURES}}, chance=1.0)
    assert max(map(len, full.table().splitlines())) <= 80 and "100 100-100 100 100-100" in full.table()


def found_by_hand(**columns):
    """A Localization of maps whose values, alike in all measures, are given."""
    values = {name: {measure: torch.tensor(column) for measure in MEASURES} for name, column in columns.items()}
    return localization.Localization({name: {} for name in columns}, values, {}, 0.5, len(next(iter(columns.values()))))


def test_beyond_compares_the_same_pictures_so_that_a_constant_lead_has_an_interval_of_no_width():
    hard = [0.0, 0.2, 0.9, 0.4, 0.7, 0.1]
    beyond = found_by_hand(map=[value + 0.05 for value in hard], hill=hard).beyond(["hill"])
    assert list(beyond) == ["map"] and beyond["map"]["energy"] == pytest.approx((0.05,) * 3, abs=1e-6)
    assert beyond["map"]["deletion"] == pytest.approx((-0.05,) * 3, abs=1e-6)         # of deletion, less is better


def test_beyond_takes_the_best_baseline_anew_in_every_resample():
    # each baseline is right on half of the pictures: whichever half is drawn more often, one of them profits
    halves = {"left": [1.0, 0.0] * 50, "right": [0.0, 1.0] * 50}
    mean, low, high = found_by_hand(map=[0.5] * 100, **halves).beyond(list(halves))["map"]["pointing"]
    assert mean == pytest.approx(0) and high <= 0 and low < -0.05
    with pytest.raises(LabError, match="beyond: baselines='centre'"):
        found_by_hand(map=[0.5, 0.5]).beyond(["centre"])


def test_targets_are_predicted_or_given_or_the_pictures_own():
    model, pictures, seen = student(), data.load("shapes", "test", count=5), []

    def watcher(model, inputs, target):
        seen.append(target.tolist())
        return torch.ones(len(inputs), 2, 2)

    triple = (pictures.inputs, pictures.masks, pictures.labels)
    for given in ({}, {"target": 3}, {"target": "labels"}):
        localize(model, triple, {"watcher": watcher}, steps=1, **given)
    assert seen == [model.eval()(pictures.inputs).argmax(1).tolist(), [3] * 5, pictures.labels.tolist()]


@pytest.mark.parametrize("pictures, explainers, settings, words", [
    (data.load("digits", "test", count=3), {"edges": edge_map}, {},
     r'there are no masks; give \(3, .*data.load\("shapes", "test"\)'),
    ((torch.zeros(2, 3, 32, 32), torch.zeros(2, 32, 32)), {"edges": edge_map}, {}, "mask of picture 0 is empty"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(1, 32, 32)), {"edges": edge_map}, {}, r"masks have shape \(1, 32, 32\); give \(2, height, width\)"),
    (torch.zeros(2, 3, 32, 32), {"edges": edge_map}, {}, "pictures are Tensor"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {}, {}, "give a dict of at least one"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {"edges": 3}, {}, "edges is int"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {"edges": edge_map}, {"target": 10}, "target 10 is out of"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {"edges": edge_map}, {"target": "labels"}, "none are given"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {"edges": edge_map}, {"batch_size": 0}, "1 <= batch_size"),
    ((torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32)), {"bad": lambda m, x, t: x}, {}, "localize: bad: maps are"),
])
def test_bad_input_is_refused(pictures, explainers, settings, words):
    with pytest.raises(LabError, match=words):
        localize(student(), pictures, explainers, **settings)
