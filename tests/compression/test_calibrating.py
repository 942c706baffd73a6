"""Moments against numpy on recorded inputs; calibration that tells nothing is refused."""

import numpy
import pytest
import torch
from drawn_weights import pictures
from small_models import PICTURES, small

from lightvit_lab.compression.calibrating import input_moments, require_calibration
from lightvit_lab.errors import LabError


@pytest.mark.parametrize("kind, layer", [("lab", "blocks.1.attn.proj"), ("timm", "blocks.2.mlp.fc2"),
                                         ("lightvit", "stages.1.1.attn.qkv")])
def test_moments_are_mean_and_covariance_of_what_the_layer_is_given(kind, layer):
    model, inputs, seen = small(kind), pictures(1, *PICTURES), []
    found = input_moments(model, inputs, {"it": model.get_submodule(layer)}, batch_size=4)["it"]
    handle = model.get_submodule(layer).register_forward_pre_hook(
        lambda module, given: seen.append(given[0].detach().flatten(0, -2).double().numpy()))
    model(inputs)
    handle.remove()
    expected = numpy.concatenate(seen)
    assert found.count == len(expected) and numpy.allclose(found.mean, expected.mean(0), atol=1e-5)
    assert numpy.allclose(found.covariance, numpy.cov(expected.T, bias=True), atol=1e-4)
    assert numpy.allclose(found.second_moment, expected.T @ expected / len(expected), atol=1e-4)


def test_watching_leaves_the_model_in_the_mode_it_was_in_and_without_hooks_even_after_an_error():
    model = small().train()
    layer = model.blocks[0].mlp.fc1
    input_moments(model, pictures(1, *PICTURES), {"it": layer})
    assert model.training and not layer._forward_pre_hooks
    with pytest.raises(LabError):
        input_moments(model, pictures(1, 2, 3, 16, 16), {"it": layer})
    assert model.training and not layer._forward_pre_hooks


@pytest.mark.parametrize("calibration, words", [
    (None, "this needs calibration"),
    (torch.zeros(0, 3, 32, 32), "0 pictures"),
    (torch.randn(1, 3, 32, 32), "has 1 picture;"),
    (torch.randn(3, 32, 32), "add the batch"),
    (torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8), "floating point"),
    (torch.rand(4, 3, 32, 32), "normalised"),
    (torch.rand(4, 3, 32, 32) * 255, "normalised"),
    (torch.full((4, 3, 32, 32), float("nan")), "normalised"),
    ("pictures", "expected a torch tensor"),
])
def test_calibration_that_tells_nothing_is_refused(calibration, words):
    with pytest.raises(LabError, match=words):
        require_calibration("prune_mlp", calibration)


def test_labels_are_asked_for_only_where_they_are_needed():
    inputs = pictures(1, *PICTURES)
    assert require_calibration("prune_mlp", inputs)[1] is None
    for calibration in (inputs, (inputs, torch.zeros(5)), (inputs, None)):
        with pytest.raises(LabError, match="label for each picture"):
            require_calibration("prune_mlp", calibration, labels=True)
    given, labels = require_calibration("prune_mlp", (inputs, torch.zeros(6).long()), labels=True)
    assert given is inputs and labels.shape == (6,)
