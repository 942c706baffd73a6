"""Compensation against least squares in numpy, and on models whose units can be told from others exactly."""

import numpy
import pytest
import torch
from drawn_weights import pictures
from small_models import PICTURES, silenced, small

from lightvit_lab.compression.calibrating import Moments, input_moments
from lightvit_lab.compression.compensation import prediction, refit
from lightvit_lab.compression.pruning import prune_head_width, prune_heads, prune_mlp
from lightvit_lab.compression.structure import apply_pruning, kept_columns
from lightvit_lab.models.transforming import transformed


def moments_of(seen):
    return Moments(len(seen), seen.sum(0), seen.T @ seen)


def drawn(tokens=400, size=7):
    generator = numpy.random.default_rng(0)
    return generator.normal(size=(tokens, size)) @ generator.normal(size=(size, size)) + generator.normal(size=size)


@pytest.mark.parametrize("ridge", [0, 0.03])
def test_the_prediction_is_ridge_regression_of_what_is_removed_on_what_is_kept(ridge):
    seen, kept, removed = drawn(), [0, 2, 5], [1, 3, 4, 6]
    centred = seen - seen.mean(0)
    weight = ridge * centred[:, kept].var(0).mean() * len(seen)
    rows = numpy.vstack([centred[:, kept], numpy.sqrt(weight) * numpy.eye(3)])
    expected = numpy.linalg.lstsq(rows, numpy.vstack([centred[:, removed], numpy.zeros((3, 4))]), rcond=None)[0].T
    found = prediction(moments_of(torch.from_numpy(seen)), torch.tensor(kept), torch.tensor(removed), ridge)
    assert numpy.allclose(found.numpy(), expected, atol=1e-9)


def test_without_a_bias_values_are_regressed_as_they_are():
    seen, kept, removed = drawn(), [0, 2, 5], [1]
    expected = numpy.linalg.lstsq(seen[:, kept], seen[:, removed], rcond=None)[0].T
    found = prediction(moments_of(torch.from_numpy(seen)), torch.tensor(kept), torch.tensor(removed), 0, centred=False)
    assert numpy.allclose(found.numpy(), expected, atol=1e-9)


def test_columns_that_never_vary_do_not_break_the_regression():
    seen = torch.ones(50, 4, dtype=torch.float64)
    found = prediction(moments_of(seen), torch.tensor([0, 1]), torch.tensor([2, 3]), 1e-3)
    assert torch.isfinite(found).all()


@torch.no_grad()
def doubled(kind):
    """A model whose last half of neurons says, up to a factor and a shift, what the first half says."""
    model = small(kind)
    for mlp in [part for part in model.modules() if hasattr(part, "fc1")]:
        mlp.fc1.weight[24:], mlp.fc1.bias[24:] = mlp.fc1.weight[:24], mlp.fc1.bias[:24]
    return model


@pytest.mark.parametrize("kind", ["lab", "timm", "lightvit"])
@torch.inference_mode()
def test_neurons_that_say_what_others_say_can_go_without_a_trace(kind):
    whole, inputs = doubled(kind), pictures(1, *PICTURES)
    plan = {"transform": "prune", "part": "mlp",
            "kept": {name: list(range(24)) for name, part in whole.named_modules() if hasattr(part, "fc1")}}
    columns = kept_columns(whole, plan)
    refitted = transformed(whole, plan, lambda model, plan: apply_pruning(refit(model, columns, inputs, 1e-9), plan))
    plain = transformed(whole, plan, apply_pruning)
    other = pictures(2, *PICTURES)
    assert (refitted(other) - whole(other)).abs().max() < 1e-3 * (plain(other) - whole(other)).abs().max()


@pytest.mark.parametrize("prune, ratio", [(prune_mlp, 0.5), (prune_heads, 1 / 3), (prune_head_width, 0.5)])
@pytest.mark.parametrize("kind", ["lab", "distilled", "timm", "lightvit"])
@torch.inference_mode()
def test_compensation_brings_the_layer_nearer_to_what_it_said_on_the_calibration_pictures(prune, ratio, kind):
    whole, inputs = small(kind), pictures(1, 24, 3, 32, 32)
    layer = "stages.0.0" if kind == "lightvit" else "blocks.0"     # the first: nothing before it differs
    layer += ".mlp" if prune is prune_mlp else ".attn"
    plain, refitted = (prune(whole, {layer: ratio}, "magnitude", inputs, compensate=flag) for flag in (False, True))
    outputs = {}
    for label, model in (("whole", whole), ("plain", plain), ("refitted", refitted)):
        handle = model.get_submodule(layer).register_forward_hook(
            lambda module, given, output, label=label: outputs.update({label: output}))
        model(inputs)
        handle.remove()
    if prune is prune_head_width:      # what queries lost stays lost, so values alone are made up for
        assert (outputs["refitted"] - outputs["whole"]).norm() < (outputs["plain"] - outputs["whole"]).norm()
    else:
        assert (outputs["refitted"] - outputs["whole"]).norm() < 0.9 * (outputs["plain"] - outputs["whole"]).norm()


def test_no_other_weights_change_than_those_that_read_what_went():
    whole, inputs = small(), pictures(1, *PICTURES)
    plain, refitted = (prune_mlp(whole, {"blocks.1.mlp": 0.5}, "magnitude", inputs, compensate=flag)
                       for flag in (False, True))
    other = dict(plain.named_parameters())
    changed = {name for name, value in refitted.named_parameters() if not torch.equal(value, other[name])}
    assert changed == {"blocks.1.mlp.fc2.weight", "blocks.1.mlp.fc2.bias"}
    assert refitted.recipe == plain.recipe


def test_nothing_removed_is_nothing_changed():
    whole, inputs = small(), pictures(1, *PICTURES)
    same = prune_mlp(whole, 0, "magnitude", inputs, compensate=True)
    assert all(torch.equal(one, other) for one, other in zip(same.parameters(), whole.parameters()))


def test_the_masked_model_refitted_is_the_rebuilt_model_refitted():
    whole, inputs = small("lightvit"), pictures(1, 24, 3, 32, 32)
    kept = {"stages.0.0.attn": [0, 2], "stages.1.2.attn": [1]}
    plan = {"transform": "prune", "part": "heads", "kept": kept}
    columns = kept_columns(whole, plan)
    rebuilt = transformed(whole, plan, lambda model, plan: apply_pruning(refit(model, columns, inputs, 1e-3), plan))
    masked = silenced(refit(small("lightvit"), columns, inputs, 1e-3), "heads", kept)
    with torch.inference_mode():
        assert torch.allclose(rebuilt(inputs), masked(inputs), atol=1e-5)


def test_moments_of_batches_are_those_of_all_pictures():
    model, inputs = small(), pictures(1, *PICTURES)
    layers = {"fc2": model.blocks[0].mlp.fc2}
    whole, parts = (input_moments(model, inputs, layers, batch_size)["fc2"] for batch_size in (6, 4))
    assert whole.count == parts.count == 6 * 17 and torch.allclose(whole.covariance, parts.covariance, atol=1e-5)
