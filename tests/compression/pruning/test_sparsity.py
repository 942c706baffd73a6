"""Zeros against torch.nn.utils.prune and against cases worked out by hand."""

import copy

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn
from torch.nn.utils import prune

from lightvit_lab import data, models, training
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.pruning.unstructured import _Mask, apply_sparsity, prune_weights, sparsity, keep_zeros
from lightvit_lab.errors import LabError
from lightvit_lab.profiling import count

INPUTS = pictures(1, 8, 3, 16, 16)
LAYERS = [f"blocks.{block}.{name}" for block in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


def small() -> nn.Module:
    return fill(models.create_model("lab_vit", image_size=16, depth=2, dim=32))


def four_inputs(weight: list[list[float]], inputs: torch.Tensor, **how) -> torch.Tensor:
    """The weight (4 x 4) of the only fc1, whose inputs are given, after pruning."""
    model = models.create_model("lab_vit", image_size=16, dim=32, depth=1)
    model.patch_embed, model.blocks[0].attn = nn.Flatten(2), nn.Identity()
    model.embed, model.blocks[0].norm1, model.blocks[0].norm2 = lambda images: inputs, nn.Identity(), nn.Identity()
    model.blocks[0].attn.forward = torch.zeros_like
    fc1, fc2 = nn.Linear(4, len(weight)), nn.Linear(len(weight), 4)
    fc1.weight.data = torch.tensor(weight)
    model.blocks[0].mlp.fc1, model.blocks[0].mlp.fc2 = fc1, fc2
    model.norm, model.head = nn.Identity(), nn.Linear(4, 2)
    return prune_weights(model, 0.5, calibration=INPUTS, **how).blocks[0].mlp.fc1.weight


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9])
def test_magnitude_makes_the_same_zeros_as_torch_for_each_layer_and_for_all_together(ratio):
    model = small()
    by_layer, together = prune_weights(model, ratio), prune_weights(model, ratio, budget="global")
    alone, joint = copy.deepcopy(model), copy.deepcopy(model)
    for name in LAYERS:
        prune.l1_unstructured(alone.get_submodule(name), "weight", amount=ratio)
    together_weights = [(joint.get_submodule(name), "weight") for name in LAYERS]
    prune.global_unstructured(together_weights, prune.L1Unstructured, amount=ratio)
    for name in LAYERS:
        assert torch.equal(by_layer.get_submodule(name).weight, alone.get_submodule(name).weight)
        assert torch.equal(together.get_submodule(name).weight, joint.get_submodule(name).weight)
    assert len(set(sparsity(together).values())) > 1


def test_only_the_blocks_linear_layers_get_zeros_and_the_model_is_left_untouched():
    model = small()
    before = copy.deepcopy(model.state_dict())
    sparse = prune_weights(model, 0.5, "random")
    assert list(sparsity(sparse)) == LAYERS and set(sparsity(sparse).values()) == {0.5}
    changed = {name for name, value in sparse.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.weight" for name in LAYERS}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sparse.recipe["plans"][0]["transform"] == "prune_weights"


def test_wanda_weighs_each_weight_by_the_norm_of_its_input_and_compares_within_rows():
    # Norms of the inputs over all tokens: 1, 10, 0.1, 1. Scores: 4, 10, 0.3, 2 and 0.1, 2, 0.9, 0.3.
    tokens = torch.tensor([1.0, 10.0, 0.1, 1.0]).expand(8, 5, 4) * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])[:, None]
    pruned = four_inputs(2 * [[4.0, 1.0, 3.0, 2.0], [0.1, 0.2, 9.0, 0.3]], tokens, importance="wanda")
    assert pruned.tolist() == torch.tensor(2 * [[4.0, 1.0, 0.0, 0.0], [0.0, 0.2, 9.0, 0.0]]).tolist()


def naive_wanda(model, ratio):
    """Wanda as its authors' code has it: what a block is given comes from the blocks pruned before it."""
    model, seen = copy.deepcopy(model), {}
    for block in (0, 1):
        names = [name for name in LAYERS if name.startswith(f"blocks.{block}")]
        handles = [model.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0].flatten(0, 1)})) for name in names]
        with torch.no_grad():
            model(INPUTS)
            for name in names:
                weight = model.get_submodule(name).weight
                for row, scores in zip(weight, weight.abs() * seen[name].norm(dim=0)):
                    row[scores.argsort()[:round(ratio * len(row))]] = 0
        for handle in handles:
            handle.remove()
    return model


def test_wanda_judges_a_block_by_what_the_blocks_pruned_before_hand_on():
    model = small()
    library, naive = prune_weights(model, 0.8, "wanda", INPUTS), naive_wanda(model, 0.8)
    seen = {name: (library.get_submodule(name).weight != 0) != (naive.get_submodule(name).weight != 0) for name in LAYERS}
    assert sum(apart.sum() for apart in seen.values()) <= 4                      # but for ties in the last digit
    of_dense = prune_weights(model, {name: 0.8 for name in LAYERS if name.startswith("blocks.1")}, "wanda", INPUTS)
    name = "blocks.1.mlp.fc1"                       # by what the whole block 0 hands on, other weights go
    assert ((of_dense.get_submodule(name).weight != 0) != (library.get_submodule(name).weight != 0)).sum() > 4


def test_two_of_four_keeps_the_two_best_of_every_four_inputs():
    tokens = torch.ones(8, 5, 4)
    pruned = four_inputs(2 * [[4.0, -1.0, 3.0, 2.0], [0.1, -0.2, 0.0, 0.3]], tokens, pattern="2:4")
    assert pruned.tolist() == torch.tensor(2 * [[4.0, 0.0, 3.0, 0.0], [0.0, -0.2, 0.0, 0.3]]).tolist()
    wide = prune_weights(small(), 0.5, "wanda", INPUTS, pattern="2:4")
    for name in LAYERS:
        fours = wide.get_submodule(name).weight.unflatten(1, (-1, 4))
        assert ((fours != 0).sum(-1) == 2).all()


def test_wanda_needs_less_of_the_output_than_magnitude_where_inputs_differ():
    model = small()
    model.blocks[0].norm2.weight.data = torch.logspace(-2, 1, 32)
    seen = []
    model.blocks[0].mlp.fc1.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(INPUTS)
        errors = [(seen[0] @ (pruned.blocks[0].mlp.fc1.weight - model.blocks[0].mlp.fc1.weight).T).norm()
                  for pruned in (prune_weights(model, 0.5), prune_weights(model, 0.5, "wanda", INPUTS))]
    assert errors[1] < 0.5 * errors[0]


def test_zeros_that_are_there_count_and_no_ratio_below_them_is_taken():
    half = prune_weights(small(), 0.5)
    more = prune_weights(half, 0.75)
    assert set(sparsity(more).values()) == {0.75}
    assert ((half.blocks[0].mlp.fc1.weight == 0) <= (more.blocks[0].mlp.fc1.weight == 0)).all()
    assert sparsity(prune_weights(half, 0.5, "random")) == sparsity(half)
    for how in ({}, {"budget": "global"}):
        with pytest.raises(LabError, match="zero already"):
            prune_weights(half, 0.4, **how)


def test_ratios_by_layer_leave_the_others_as_they_are():
    shares = sparsity(prune_weights(small(), {"blocks.1.mlp.fc2": 0.75}))
    assert {name: share for name, share in shares.items() if share} == {"blocks.1.mlp.fc2": 0.75}


def test_factors_of_a_factorized_layer_are_pruned_too():
    sparse = prune_weights(factorize(small(), 4, qkv="per_head", layers=("qkv", "fc1")), 0.5, "wanda", INPUTS)
    shares = sparsity(sparse)
    assert shares["blocks.0.attn.qkv.up"] == shares["blocks.0.mlp.fc1.down"] == 0.5 and len(shares) == 12


def test_zeros_cost_as_many_multiplications_as_before():
    model = small()
    assert count(prune_weights(model, 0.9), (3, 16, 16)).macs == count(model, (3, 16, 16)).macs


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_zeros_stay_zero_in_training_and_the_model_is_plain_again_after_it(optimizer):
    sparse = prune_weights(small(), 0.5)
    names, before = list(sparse.state_dict()), copy.deepcopy(sparse)
    pictures_of_shapes = data.load("shapes", image_size=16, count=32)
    with keep_zeros(sparse):
        training.fit(sparse, pictures_of_shapes, steps=3, batch_size=8, optimizer=optimizer, threads=1, progress=False,
                     precision="float32", attention="fused", weight_decay=0.1)
    assert list(sparse.state_dict()) == names
    for name in LAYERS:
        now, then = sparse.get_submodule(name).weight, before.get_submodule(name).weight
        assert torch.equal(now == 0, then == 0) and not torch.equal(now, then)
    step = torch.optim.SGD(sparse.parameters(), lr=0.1)
    sparse(INPUTS).square().sum().backward()
    step.step()
    assert (sparse.blocks[0].mlp.fc2.weight != 0).float().mean() > 0.9          # outside, zeros may move again


def test_the_plan_alone_builds_a_model_that_the_weights_fit():
    sparse = prune_weights(small(), 0.5, "wanda", INPUTS)
    built = apply_sparsity(models.create_model("lab_vit", image_size=16, depth=2, dim=32), sparse.recipe["plans"][0])
    built.eval()
    built.load_state_dict(sparse.state_dict())
    assert torch.equal(built(INPUTS), sparse(INPUTS))


@pytest.mark.parametrize("arguments, words", [
    ({"ratio": 1.0}, "0 <= ratio < 1"), ({"ratio": -0.1}, "0 <= ratio < 1"), ({"ratio": "0.5"}, "0 <= ratio < 1"),
    ({"ratio": float("nan")}, "0 <= ratio < 1"), ({"ratio": 0.99999}, "leaves none"),
    ({"ratio": 0.5, "importance": "magnitud"}, 'Did you mean "magnitude"'),
    ({"ratio": 0.5, "importance": "wanda"}, "needs"),
    ({"ratio": 0.5, "importance": "wanda", "calibration": INPUTS[:0]}, "0 pictures"),
    ({"ratio": 0.5, "importance": "wanda", "calibration": INPUTS[:1]}, "has 1 picture;"),
    ({"ratio": 0.5, "importance": "wanda", "calibration": INPUTS.abs()}, "normalised"),
    ({"ratio": 0.5, "importance": "wanda", "calibration": INPUTS, "budget": "global"}, 'budget="layer"'),
    ({"ratio": 0.5, "pattern": "2:5"}, "2:4"), ({"ratio": 0.4, "pattern": "2:4"}, "give 0.5"),
    ({"ratio": 0.5, "pattern": "2:4", "budget": "global"}, 'budget="layer"'),
    ({"ratio": 0.5, "budget": "globl"}, "global"),
    ({"ratio": {"blocks.0.mlp.fc3": 0.5}}, "blocks.0.mlp.fc"),
])
def test_bad_arguments_are_refused_with_what_is_allowed(arguments, words):
    with pytest.raises(LabError, match=words):
        prune_weights(small(), **arguments)


def test_models_without_such_layers_are_refused():
    with pytest.raises(LabError, match="no linear layers"):
        prune_weights(models.create_model("lab_cnn"), 0.5)
    with pytest.raises(LabError, match="no multiple of 4"):
        prune_weights(models.create_model("lab_vit", image_size=16, depth=1, dim=30, num_heads=2), 0.5, pattern="2:4")


def test_the_mask_of_a_weight_follows_it_to_another_device_once():
    mask = _Mask(torch.tensor([0.0, 2.0]))
    assert mask.apply(torch.tensor([3.0, 4.0])).tolist() == [0.0, 4.0]
    mask.apply(torch.empty(2, device="meta"))
    there = mask.value
    mask.apply(torch.empty(2, device="meta"))
    assert there.device.type == "meta" and mask.value is there
