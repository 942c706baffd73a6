"""Compensation against least squares in numpy, and on models whose units can be told from others exactly."""

import numpy
import pytest
import torch
from drawn_weights import pictures
from small_models import PICTURES, small

from lightvit_lab.compression.pruning.compensation import correction, refit
from lightvit_lab.compression.pruning.pruners import prune_head_width, prune_heads, prune_mlp
from lightvit_lab.compression.pruning.structure import apply_pruning
from lightvit_lab.errors import LabError
from lightvit_lab.models.transforming import transformed

PARTS = ((prune_mlp, 0.5), (prune_heads, 1 / 3), (prune_head_width, 0.5))


def drawn(tokens=400, size=7, outputs=4):
    generator = numpy.random.default_rng(0)
    inputs = generator.normal(size=(tokens, size)) @ generator.normal(size=(size, size)) + generator.normal(size=size)
    return inputs, inputs[:, :3] @ generator.normal(size=(3, outputs)) + generator.normal(size=(tokens, outputs)) + 2


def ridge_regression(inputs, missing, ridge):
    """(outputs, inputs) by least squares on data with a row for each penalty, both centred."""
    inputs, missing = inputs - inputs.mean(0), missing - missing.mean(0)
    weight = ridge * inputs.var(0).mean() * len(inputs)
    rows = numpy.vstack([inputs, numpy.sqrt(weight) * numpy.eye(inputs.shape[1])])
    wanted = numpy.vstack([missing, numpy.zeros((inputs.shape[1], missing.shape[1]))])
    return numpy.linalg.lstsq(rows, wanted, rcond=None)[0].T


@pytest.mark.parametrize("ridge", [0, 0.03])
def test_the_correction_is_ridge_regression_of_what_is_missing_on_the_inputs(ridge):
    inputs, missing = drawn()
    found = correction(torch.from_numpy(inputs), torch.from_numpy(missing), ridge)
    assert numpy.allclose(found.numpy(), ridge_regression(inputs, missing, ridge), atol=1e-8)


def test_without_a_bias_values_are_regressed_as_they_are():
    inputs, missing = drawn()
    expected = numpy.linalg.lstsq(inputs, missing, rcond=None)[0].T
    found = correction(torch.from_numpy(inputs), torch.from_numpy(missing), 0, centred=False)
    assert numpy.allclose(found.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_inputs_that_never_vary_do_not_break_the_regression(value):
    found = correction(torch.full((50, 4), value), torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), 1e-3)
    assert torch.isfinite(found).all() and found.abs().max() < 1


@torch.no_grad()
def doubled(kind):
    """A model whose last half of neurons says what the first half says."""
    model = small(kind)
    for mlp in [part for part in model.modules() if hasattr(part, "fc1")]:
        mlp.fc1.weight[24:], mlp.fc1.bias[24:] = mlp.fc1.weight[:24], mlp.fc1.bias[:24]
    return model


@pytest.mark.parametrize("kind", ["lab", "timm", "lightvit"])
def test_neurons_that_say_what_others_say_can_go_without_a_trace(kind):
    whole, inputs, others = doubled(kind), pictures(1, 24, 3, 32, 32), pictures(2, *PICTURES)
    names = [name for name, part in whole.named_modules() if hasattr(part, "fc1")]
    plan = {"transform": "prune", "part": "mlp", "kept": {name: list(range(24)) for name in names}}
    plain, refitted = (transformed(whole, plan, apply_pruning) for _ in range(2))
    refit(refitted, whole, [f"{name}.fc2" for name in names], inputs, ridge=1e-9)
    with torch.inference_mode():
        lost, left = ((model(others) - whole(others)).abs().max() for model in (plain, refitted))
    assert lost > 1e-3 and left < 0.05 * lost


def recorded(model, layer, inputs):
    """Inputs (tokens, n) and outputs of a layer of `model`."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, given, output: seen.extend([given[0].flatten(0, -2), output.flatten(0, -2)]))
    with torch.inference_mode():
        model(inputs)
    handle.remove()
    return [value.double().numpy() for value in seen]


@pytest.mark.parametrize("prune, ratio", PARTS)
@pytest.mark.parametrize("kind", ["lab", "timm", "lightvit"])
def test_every_layer_is_refitted_to_what_the_whole_model_says_from_what_the_pruned_one_sees(prune, ratio, kind):
    whole, inputs = small(kind), pictures(1, 24, 3, 32, 32)
    plain, refitted = (prune(whole, ratio, "magnitude", inputs, compensate=flag, ridge=1e-2) for flag in (False, True))
    end = "mlp.fc2" if prune is prune_mlp else "attn.proj"
    layers = [name for name, _ in whole.named_modules() if name.endswith(end)]
    assert len(layers) >= 3
    for name in layers:
        seen, _ = recorded(refitted, name, inputs)       # after all layers before it were refitted
        wanted, layer, new = recorded(whole, name, inputs)[1], plain.get_submodule(name), refitted.get_submodule(name)
        missing = wanted - seen @ layer.weight.detach().double().numpy().T - layer.bias.detach().double().numpy()
        change = ridge_regression(seen, missing, 1e-2)
        assert numpy.allclose((new.weight - layer.weight).detach().numpy(), change, atol=1e-3 * abs(change).max())
        said = seen @ new.weight.detach().double().numpy().T + new.bias.detach().double().numpy()
        assert numpy.allclose(said.mean(0), wanted.mean(0), atol=1e-4)


@pytest.mark.parametrize("kind", ["lab", "distilled", "timm", "scaled", "lightvit"])
def test_compensation_brings_logits_of_other_pictures_nearer_to_those_of_the_whole_model(kind):
    whole, inputs, others = small(kind), pictures(1, 48, 3, 32, 32), pictures(2, 24, 3, 32, 32)
    with torch.inference_mode():
        expected = whole(others)
    plain, refitted = (prune_mlp(whole, 0.5, "magnitude", inputs, compensate=flag) for flag in (False, True))
    with torch.inference_mode():
        assert (refitted(others) - expected).norm() < 0.9 * (plain(others) - expected).norm()


def test_no_other_weights_change_than_those_that_read_what_went():
    whole, inputs = small(), pictures(1, *PICTURES)
    plain, refitted = (prune_mlp(whole, {"blocks.1.mlp": 0.5, "blocks.2.mlp": 0}, "magnitude", inputs, compensate=flag)
                       for flag in (False, True))
    other = dict(plain.named_parameters())
    changed = {name for name, value in refitted.named_parameters() if not torch.equal(value, other[name])}
    assert changed == {"blocks.1.mlp.fc2.weight", "blocks.1.mlp.fc2.bias"}
    assert refitted.recipe == plain.recipe and not refitted.blocks[1].mlp.fc2._forward_pre_hooks


def test_layers_without_a_bias_are_refitted_too():
    whole, inputs = small("timm", proj_bias=False), pictures(1, 24, 3, 32, 32)
    plain, refitted = (prune_mlp(whole, {"blocks.0.mlp": 0.5}, "magnitude", inputs, compensate=flag)
                       for flag in (False, True))
    wanted = recorded(whole, "blocks.0.mlp.fc2", inputs)[1]
    said = [recorded(model, "blocks.0.mlp.fc2", inputs)[1] for model in (plain, refitted)]
    lost, left = (numpy.linalg.norm(one - wanted) for one in said)
    assert refitted.blocks[0].mlp.fc2.bias is None and left < 0.8 * lost


@torch.no_grad()
def test_the_bias_alone_takes_up_the_mean_of_what_went():
    model, inputs, seen = small(), pictures(1, 40, *PICTURES[1:]), []
    handle = model.blocks[0].mlp.fc2.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(inputs)
    handle.remove()
    pruned = prune_mlp(model, {"blocks.0.mlp": 0.5}, "std", inputs, compensate="bias")
    before, after = model.blocks[0].mlp.fc2, pruned.blocks[0].mlp.fc2
    kept = [column for column in range(48) if (before.weight[:, column, None] == after.weight).all(0).any()]
    gone = [column for column in range(48) if column not in kept]
    assert len(kept) == 24 and torch.equal(after.weight, before.weight[:, kept])
    mean = seen[0].flatten(0, 1).mean(0)[gone]
    torch.testing.assert_close(after.bias, before.bias + before.weight[:, gone] @ mean, rtol=1e-4, atol=1e-5)
    with pytest.raises(LabError, match="compensate='biases'"):
        prune_mlp(model, 0.5, "std", inputs, compensate="biases")
