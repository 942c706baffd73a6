import copy

import pytest
import torch

from lightvit_lab import checkpoint, data, models, training
from lightvit_lab.checkpoint import zoo
from lightvit_lab.experiments import lightvit_lesion, results


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.create_model("lab_lightvit").eval()


@torch.no_grad()
def test_handing_back_nothing_is_a_model_whose_value_weights_are_zero_and_ends_with_the_block(model):
    inputs, cut = torch.randn(3, 3, 32, 32), copy.deepcopy(model)
    whole = model(inputs)
    for name, layer in cut.named_modules():
        if name.endswith("kv_global"):
            half = layer.out_features // 2
            layer.weight[half:], layer.bias[half:] = 0, 0
    with lightvit_lesion.lesion(model, lightvit_lesion.LESIONS["hands back nothing"]):
        assert torch.allclose(model(inputs), cut(inputs), atol=1e-6)
    assert torch.equal(model(inputs), whole)


def test_the_mean_tells_pictures_nothing_apart_and_another_picture_gets_its_neighbours():
    given = torch.arange(6.0).view(3, 1, 2)
    assert lightvit_lesion.LESIONS["the mean of 256 pictures"](given).tolist() == [[[2.0, 3.0]]] * 3
    assert lightvit_lesion.LESIONS["what belongs to another picture"](given).tolist() == [[[4.0, 5.0]], [[0.0, 1.0]], [[2.0, 3.0]]]


def test_the_stored_models_are_those_of_the_zoo_and_the_lesion_comes_out_again():
    stored = results.load("lightvit_lesion").data
    assert list(stored["rows"]) == list(lightvit_lesion.DATASETS)
    for dataset, row in stored["rows"].items():
        assert row["sha256"] == zoo.card(f"lab_lightvit/{dataset}")["sha256"], dataset
        assert row["whole"]["test_low"] > row["hands back nothing"]["test_high"], dataset
    model, pictures = checkpoint.load("zoo:lab_lightvit/shapes"), data.load("shapes", "test", count=256)
    with lightvit_lesion.lesion(model, lightvit_lesion.LESIONS["hands back nothing"]):
        again = training.evaluate(model, pictures)
    row = stored["rows"]["shapes"]["hands back nothing"]
    assert again.low < row["test"] < again.high
