"""Low-rank factors against singular value decompositions, closed forms and costs worked out by hand."""

import copy
import json

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import models, profiling
from lightvit_lab.compression.calibrating import Moments
from lightvit_lab.compression.low_rank.factors import LowRankLinear, apply_factors, break_even, factorize, output_error
from lightvit_lab.compression.low_rank.spectra import spectrum
from lightvit_lab.errors import LabError


def small(name: str = "lab_vit", **arguments) -> nn.Module:
    return fill(models.create_model(name, **{"image_size": 16, "depth": 2, **arguments}))


def deit() -> nn.Module:
    return fill(models.create_model("deit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=48,
                                    num_heads=3))


def lightvit() -> nn.Module:
    return fill(models.create_model("lab_lightvit", embed_dims=(16, 32), num_layers=(1, 1), num_heads=(2, 4),
                                    neck_dim=32))


INPUTS = pictures(1, 8, 3, 16, 16)


def parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def seen_by(inputs: torch.Tensor) -> Moments:
    inputs = inputs.double()
    return Moments(len(inputs), inputs.sum(0), inputs.T @ inputs)


def factors_of(layer: nn.Linear, rank: int, groups: int = 1, moments: Moments | None = None) -> LowRankLinear:
    down, up, bias = spectrum(layer, groups, moments).factors(rank)
    made = LowRankLinear(layer.in_features, layer.out_features, rank, groups, layer.bias is not None).double()
    made.down.weight.data, made.up.weight.data = down, up
    if bias is not None:
        made.up.bias.data = bias
    return made


def drawn_layer(m: int = 24, n: int = 16, bias: bool = True) -> tuple[nn.Linear, torch.Tensor]:
    """A layer in float64 and 400 inputs of unequal, correlated variances around a mean that is not 0."""
    torch.manual_seed(0)
    layer = nn.Linear(n, m, bias).double()
    inputs = torch.randn(400, n).double() @ (torch.randn(n, n).double() * torch.logspace(0, -2, n).double()).T
    return layer, inputs + 2 * torch.randn(n).double()


@pytest.mark.parametrize("bias", [True, False])
def test_no_other_factors_of_that_rank_have_a_smaller_error_of_the_output(bias):
    layer, inputs = drawn_layer(bias=bias)
    outputs = layer(inputs)
    ours = factors_of(layer, 5, moments=seen_by(inputs))
    error = (ours(inputs) - outputs).square().sum().item()
    fitted = outputs - outputs.mean(0) if bias else outputs    # Eckart and Young: the nearest matrix of rank 5
    least = torch.linalg.svdvals(fitted)[5:].square().sum().item()
    assert error == pytest.approx(least, rel=1e-3)
    assert error < 0.5 * (factors_of(layer, 5)(inputs) - outputs).square().sum().item()
    for seed in range(20):
        torch.manual_seed(seed)
        other = copy.deepcopy(ours)
        with torch.no_grad():
            for value in other.parameters():
                value.add_(1e-3 * torch.randn_like(value))
            assert (other(inputs) - outputs).square().sum().item() > error


def test_plain_factors_are_the_truncated_singular_value_decomposition():
    layer, _ = drawn_layer()
    left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
    wanted = left[:, :5] @ torch.diag(values[:5]) @ right[:5]
    made = factors_of(layer, 5)
    assert torch.allclose(made.product(), wanted, atol=1e-10)
    assert torch.equal(made.up.bias, layer.bias)
    assert torch.allclose(made.down.weight.norm(dim=1), made.up.weight.norm(dim=0))   # neither is longer


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_full_rank_gives_the_same_output(groups):
    layer, inputs = drawn_layer(m=48)
    full = min(48 // groups, 16)
    for moments in (None, seen_by(inputs)):
        assert torch.allclose(factors_of(layer, full, groups, moments)(inputs), layer(inputs), atol=1e-5)


def test_groups_have_factors_of_their_own():
    layer, inputs = drawn_layer(m=24)
    made = factors_of(layer, 2, groups=6)
    for block, product in zip(layer.weight.split(4), made.product().split(4)):
        left, values, right = torch.linalg.svd(block, full_matrices=False)
        assert torch.allclose(product, left[:, :2] @ torch.diag(values[:2]) @ right[:2], atol=1e-10)
    assert torch.allclose(made(inputs[None]), inputs[None] @ made.product().T + made.up.bias, atol=1e-10)


@pytest.mark.parametrize("qkv, groups, rank", [("joint", 1, 8), ("split", 3, 8), ("per_head", 12, 8)])
def test_qkv_is_cut_into_the_blocks_asked_for(qkv, groups, rank):
    layer = factorize(small(), rank, qkv=qkv).blocks[0].attn.qkv
    assert (layer.groups, layer.rank, layer.down.out_features) == (groups, rank, groups * rank)


def test_a_singular_covariance_gives_finite_factors_that_are_exact_where_inputs_are():
    layer, inputs = drawn_layer()
    inputs[:, 3] = 0.0
    inputs[:, 4:] -= inputs[:, 4:].mean(1, keepdim=True)     # as after a LayerNorm: two directions are never taken
    made = factors_of(layer, 14, moments=seen_by(inputs))
    assert all(torch.isfinite(value).all() for value in made.parameters())
    assert (made(inputs) - layer(inputs)).norm() < 1e-4 * layer(inputs).norm()


def test_energy_chooses_the_least_rank_that_keeps_it():
    model = small()
    layer = model.blocks[0].attn.proj
    rotations = torch.linalg.qr(torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)))[0]
    layer.weight.data = rotations[0] @ torch.diag(torch.tensor([3.0, 2.0, 1.0] + [0.0] * 61)) @ rotations[1]
    for energy, rank in ((9 / 14 - 0.01, 1), (9 / 14 + 0.01, 2), (13 / 14 + 0.01, 3)):
        assert factorize(model, energy=energy, layers="blocks.0.attn.proj").blocks[0].attn.proj.rank == rank


def test_a_budget_is_nearly_spent_and_never_exceeded():
    model = small()
    whole = sum(model.get_submodule(f"blocks.{b}.{n}").weight.numel() for b in (0, 1)
                for n in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"))
    for budget in (0.1, 0.5, 0.8):
        smaller = factorize(model, budget=budget, calibration=INPUTS)
        spent = whole + parameters(smaller) - parameters(model)
        assert (budget - 0.02) * whole < spent <= budget * whole
    flat = factorize(model, budget=0.5, layers=("proj", "fc1"))
    assert len({layer.rank for layer in flat.modules() if isinstance(layer, LowRankLinear)}) > 1   # layers differ


def test_a_layer_that_a_budget_takes_whole_is_left_whole():
    assert factorize(small(), budget=1.0).recipe["plans"][0]["layers"] == {}


def test_break_even_is_where_two_factors_cost_as_much():
    assert break_even(384, 384) == 192
    assert break_even(384, 1536) == pytest.approx(307.2)
    smaller = factorize(small(), "break-even")
    assert smaller.blocks[0].attn.proj.rank == 31           # 32 * (64 + 64) is 64 * 64: nothing saved
    assert smaller.blocks[0].mlp.fc1.rank == 51             # 51.2 by the formula
    kept = factorize(small(), 40)
    assert isinstance(kept.blocks[0].attn.proj, nn.Linear) and isinstance(kept.blocks[0].mlp.fc1, LowRankLinear)


@pytest.mark.parametrize("qkv, qkv_macs", [("joint", 8 * (64 + 192)), ("per_head", 8 * (12 * 64 + 192))])
def test_multiply_accumulates_are_counted_as_worked_out_by_hand(qkv, qkv_macs):
    smaller = factorize(small(), 8, qkv=qkv, layers="qkv")
    counted = profiling.count(smaller, (3, 16, 16))
    assert counted.by_module["blocks.0.attn.qkv"] == 17 * qkv_macs
    assert counted.uncounted == {}


@pytest.mark.parametrize("make, inputs", [(small, INPUTS), (deit, pictures(2, 8, 3, 32, 32)),
                                          (lightvit, pictures(3, 8, 3, 32, 32))])
def test_every_kind_of_model_is_factorized_closely_and_left_untouched(make, inputs):
    model = make()
    before = copy.deepcopy(model.state_dict())
    smaller = factorize(model, energy=0.8, calibration=(inputs, torch.zeros(len(inputs), dtype=torch.long)))
    nearer = factorize(model, energy=0.97, calibration=inputs)
    with torch.no_grad():
        logits, rough, near = (one(inputs) for one in (model, smaller, nearer))
    assert 0 < (near - logits).norm() < (rough - logits).norm() < logits.norm()
    assert parameters(smaller) < parameters(model)
    assert not smaller.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_shapes_follow_from_the_plan_alone_also_on_the_meta_device():
    smaller = factorize(small(), energy=0.7, calibration=INPUTS, qkv="split")
    plan = json.loads(json.dumps(smaller.recipe["plans"]))[0]
    built = apply_factors(small().to("meta"), plan)
    shapes = {name: value.shape for name, value in smaller.state_dict().items()}
    assert shapes == {name: value.shape for name, value in built.state_dict().items()}
    assert all(value.is_meta for value in built.parameters())
    again = apply_factors(small(), plan).eval()
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(INPUTS), smaller(INPUTS))


def test_output_error_is_that_of_the_layers_own_outputs():
    model = small()
    smaller = factorize(model, 8)
    with torch.no_grad():
        tokens = model.blocks[0].norm1(model.embed(INPUTS))
        right = model.blocks[0].attn.qkv(tokens)
        wrong = smaller.blocks[0].attn.qkv(tokens) - right
    found = output_error(model, smaller, INPUTS)
    assert found["blocks.0.attn.qkv"] == pytest.approx((wrong.norm() / right.norm()).item(), rel=1e-4)
    calibrated = output_error(model, factorize(model, 8, calibration=INPUTS), INPUTS)
    assert len(found) == 8 and all(calibrated[name] < found[name] for name in found)


@pytest.mark.parametrize("arguments, words", [
    ({}, "exactly one"), ({"rank": 4, "energy": 0.9}, "exactly one"), ({"rank": 0}, "1 <= rank"),
    ({"rank": -3}, "1 <= rank"),
    ({"rank": 65}, "rank <= 64"), ({"rank": 2.5}, "whole number"), ({"rank": True}, "whole number"),
    ({"rank": "break_even"}, "break-even"), ({"energy": 0}, "0 < energy"), ({"energy": 1.01}, "0 < energy"),
    ({"energy": float("nan")}, "0 < energy"), ({"energy": "0.9"}, "0 < energy"), ({"budget": 0.0}, "0 < budget"),
    ({"budget": 1e-4}, "rank 1"), ({"rank": 4, "qkv": "perhead"}, "per_head"), ({"rank": 4, "layers": "fc3"}, "fc"),
    ({"rank": 4, "layers": ()}, "names none"), ({"rank": 17, "qkv": "per_head"}, "rank <= 16"),
    ({"rank": 4, "calibration": INPUTS[:0]}, "0 pictures"), ({"rank": 4, "calibration": INPUTS[:1]}, "has 1 picture;"),
    ({"rank": 4, "calibration": INPUTS.abs()}, "normalised"),
])
def test_bad_arguments_are_refused_with_what_is_allowed(arguments, words):
    with pytest.raises(LabError, match=words):
        factorize(small(), **arguments)


def test_models_that_cannot_be_factorized_are_refused():
    once = factorize(small(), 8, layers=("fc1", "fc2"))
    with pytest.raises(LabError, match="already"):
        factorize(once, 4)
    assert isinstance(factorize(once, 8, layers="qkv").blocks[0].attn.qkv, LowRankLinear)
    with pytest.raises(LabError, match="no linear layers"):
        factorize(models.create_model("lab_cnn"), 8)
    with pytest.raises(LabError, match="no factorized layer"):
        output_error(small(), small(), INPUTS)


@pytest.mark.parametrize("layers", [None, [], {"blocks.0.attn.qkv": 3}, {"blocks.0.attn.qkv": {"rank": 10**9}},
                                    {"blocks.0.attn.qkv": {"rank": 4, "groups": 0}}, {"nothing": {"rank": 4}},
                                    {"blocks.0.attn.qkv": {"rank": 4, "groups": 10**9}}, {"qkv": {"rank": 4}},
                                    {"blocks.0.attn.qkv": {"rank": "4"}}, {"blocks.0.attn.qkv": {"rank": -1}}])
def test_plans_that_are_none_are_refused(layers):
    with pytest.raises(LabError):
        apply_factors(small(), {"transform": "factorize", "layers": layers})
