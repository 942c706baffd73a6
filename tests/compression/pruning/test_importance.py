"""Scores against derivatives of the loss with respect to a switch on each unit, picture by picture."""

import pytest
import torch
import torch.nn.functional as F
from drawn_weights import pictures
from small_models import EVERY, PICTURES, PLAIN, small

from lightvit_lab.compression.pruning import activations
from lightvit_lab.compression.pruning.importance import IMPORTANCES, scores
from lightvit_lab.compression.pruning.pruners import prune_mlp
from lightvit_lab.errors import LabError

LABELS = torch.tensor([3, 1, 4, 1, 5, 9])


def derivatives(model, hook_of, shape):
    """(pictures, *shape): d(loss of a picture) / d(switch), where `hook_of(switches)` puts ones into the forward."""
    found = []
    for picture, label in zip(pictures(1, *PICTURES), LABELS):
        switches = torch.ones(shape, requires_grad=True)
        handle = hook_of(switches)
        loss = F.cross_entropy(model(picture[None]), label[None])
        handle.remove()
        found.append(torch.autograd.grad(loss, switches)[0])
    return torch.stack(found)


def switch_inputs(layer, repeat=1):
    return lambda switches: layer.register_forward_pre_hook(
        lambda module, given: (given[0] * switches.repeat_interleave(repeat),))


def expected(model, part, kind):
    """Of the second block: layer name, and derivatives with respect to a switch on every unit."""
    name = "stages.0.1" if kind == "lightvit" else "blocks.1"
    block = model.get_submodule(name)
    if part == "mlp":
        return f"{name}.mlp", derivatives(model, switch_inputs(block.mlp.fc2), (48,))
    if part == "heads":
        return f"{name}.attn", derivatives(model, switch_inputs(block.attn.proj, 8), (3,))
    if part == "head_width":
        on_all = derivatives(model, lambda switches: block.attn.qkv.register_forward_hook(
            lambda module, given, output: output * switches), (72,)).unflatten(1, (3, 3, 8))
        return f"{name}.attn", on_all[:, [0, 2]]
    return name, derivatives(model, lambda switches: block.register_forward_hook(
        lambda module, given, output: given[0] + (output - given[0]) * switches), ())


@pytest.mark.parametrize("kind", ["lab", "timm", "lightvit"])
@pytest.mark.parametrize("part", ["mlp", "heads", "head_width", "blocks"])
def test_taylor_and_fisher_are_the_mean_and_the_mean_square_of_the_derivative_with_respect_to_a_switch(part, kind):
    model = small(kind)
    layer, slopes = expected(model, part, kind)
    inputs = pictures(1, *PICTURES)
    taylor, fisher = (scores(model, part, name, inputs, LABELS)[layer] for name in ("taylor", "fisher"))
    assert slopes.abs().max() > 1e-4
    assert torch.allclose(taylor, slopes.mean(0).abs(), atol=1e-6, rtol=1e-3)
    assert torch.allclose(fisher, slopes.square().mean(0), atol=1e-7, rtol=1e-3)


def test_taylor_per_picture_is_the_mean_size_of_the_derivative_and_no_less_than_that_of_the_mean():
    model, inputs = small(), pictures(1, *PICTURES)
    layer, slopes = expected(model, "mlp", "lab")
    found = scores(model, "mlp", "taylor_per_picture", inputs, LABELS)[layer]
    assert torch.allclose(found, slopes.abs().mean(0), atol=1e-6, rtol=1e-3)
    assert (found - scores(model, "mlp", "taylor", inputs, LABELS)[layer]).max() > 1e-5


def test_a_query_and_its_key_are_worth_the_same():
    model = small()
    slopes = derivatives(model, lambda switches: model.blocks[0].attn.qkv.register_forward_hook(
        lambda module, given, output: output * switches), (72,)).unflatten(1, (3, 3, 8))
    assert torch.allclose(slopes[:, 0], slopes[:, 1], atol=1e-6)


def test_batches_do_not_change_scores(monkeypatch):
    model, inputs = small(), pictures(1, *PICTURES)
    at_once = scores(model, "mlp", "fisher", inputs, LABELS), scores(model, "mlp", "activation", inputs)
    monkeypatch.setattr(activations, "FEW", 4)
    in_parts = scores(model, "mlp", "fisher", inputs, LABELS), scores(model, "mlp", "activation", inputs)
    for one, other in zip(at_once, in_parts):
        assert all(torch.allclose(one[name], other[name], rtol=1e-4) for name in one)


def test_magnitudes_are_norms_of_the_rows_that_make_a_unit_and_the_columns_that_read_it():
    model = small()
    block = model.blocks[2]
    squares = {name: value.detach().double().square() for name, value in block.named_parameters()}
    neuron = (squares["mlp.fc1.weight"][5].sum() + squares["mlp.fc2.weight"][:, 5].sum()).sqrt().item()
    head = (sum(squares["attn.qkv.weight"][start + 8 : start + 16].sum() for start in (0, 24, 48))
            + squares["attn.proj.weight"][:, 8:16].sum()).sqrt().item()
    value = (squares["attn.qkv.weight"][48 + 8 + 3].sum() + squares["attn.proj.weight"][:, 8 + 3].sum()).sqrt().item()
    assert scores(model, "mlp", "magnitude")["blocks.2.mlp"][5].item() == pytest.approx(neuron, rel=1e-5)
    assert scores(model, "heads", "magnitude")["blocks.2.attn"][1].item() == pytest.approx(head, rel=1e-5)
    assert scores(model, "head_width", "magnitude")["blocks.2.attn"][1, 1, 3].item() == pytest.approx(value, rel=1e-5)
    lines = block.mlp.fc1.weight[5].abs().sum() + block.mlp.fc2.weight[:, 5].abs().sum()
    assert scores(model, "mlp", "magnitude", power=1)["blocks.2.mlp"][5].item() == pytest.approx(lines.item(), rel=1e-5)


def test_a_channel_that_nobody_writes_or_reads_has_no_magnitude():
    model = small("distilled")
    with torch.no_grad():
        for name, value in model.named_parameters():
            reads = name.endswith(("qkv.weight", "fc1.weight", "head.weight", "head_dist.weight"))
            if reads:
                value[:, 7] = 0
            elif name.endswith(("patch_embed.proj.weight", "attn.proj.weight", "fc2.weight")) or "norm" in name:
                value[7] = 0
    found = scores(model, "embedding", "magnitude")["embedding"]
    assert found.shape == (24,) and found[7] == 0 and found.sort().values[1] > 1


def test_activation_is_the_mean_size_of_a_neuron_times_the_norm_of_what_reads_it():
    model, inputs, seen = small("timm"), pictures(1, *PICTURES), []
    model.blocks[0].mlp.fc2.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(inputs)
    by_hand = seen[0].abs().mean((0, 1)) * model.blocks[0].mlp.fc2.weight.norm(dim=0)
    assert torch.allclose(scores(model, "mlp", "activation", inputs)["blocks.0.mlp"], by_hand, rtol=1e-4)


def test_std_is_the_standard_deviation_of_a_neuron_times_the_norm_of_what_reads_it_and_0_of_a_constant():
    model, inputs, seen = small(), pictures(1, *PICTURES), []
    model.blocks[0].mlp.fc1.weight.data[5], model.blocks[0].mlp.fc1.bias.data[5] = 0, 3       # the neuron says 3 (nearly)
    model.blocks[0].mlp.fc2.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(inputs)
    by_hand = seen[0].flatten(0, 1).std(0, correction=0) * model.blocks[0].mlp.fc2.weight.norm(dim=0)
    found = scores(model, "mlp", "std", inputs)["blocks.0.mlp"]
    assert torch.allclose(found, by_hand, rtol=1e-4, atol=1e-6) and found[5] < 1e-6 < found.median()
    assert scores(model, "mlp", "activation", inputs)["blocks.0.mlp"][5] > 1e-3
    with pytest.raises(LabError, match='a block has a stream of them: give "activation"'):
        scores(model, "blocks", "std", inputs)


def test_flap_is_the_weighted_variance_in_deviations_of_its_layer_of_heads_the_mean_of_its_square():
    """As lib/prune.py of github.com/CASIA-IVA-Lab/FLAP has it, 3bb57db, `WIFV` and `AL-MM`."""
    model, inputs, seen = small(), pictures(1, *PICTURES), []
    block = model.blocks[0]
    for reader in (block.attn.proj, block.mlp.fc2):
        reader.register_forward_pre_hook(lambda module, given: seen.append(given[0].flatten(0, 1)))
    model(inputs)
    of_heads, of_neurons = (values.var(0, correction=0) * reader.weight.square().sum(0)
                            for values, reader in zip(seen, (block.attn.proj, block.mlp.fc2)))
    scaled = [(values - values.mean()) / values.std() for values in (of_heads.square(), of_neurons)]
    found = scores(model, "heads", "flap", inputs)["blocks.0.attn"], scores(model, "mlp", "flap", inputs)["blocks.0.mlp"]
    torch.testing.assert_close(found[0], scaled[0].unflatten(0, (3, 8)).mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], scaled[1], rtol=1e-4, atol=1e-5)
    for part, words in (("blocks", 'give "activation"'), ("embedding", 'give "std"'), ("head_width", 'give "std"')):
        with pytest.raises(LabError, match=words):
            scores(model, part, "flap", inputs)


def test_a_block_that_adds_nothing_does_not_change_its_tokens():
    model = small()
    with torch.no_grad():
        for layer in (model.blocks[1].attn.proj, model.blocks[1].mlp.fc2):
            layer.weight.zero_(), layer.bias.zero_()
    found = scores(model, "blocks", "activation", pictures(1, *PICTURES))
    assert found["blocks.1"] == 0 and found["blocks.0"] > 0.01
    assert scores(model, "blocks", "magnitude")["blocks.1"] == 0


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_scoring_leaves_the_model_as_it_was_and_needs_no_trainable_weights(importance):
    model = small("lightvit").train()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():       # as on pages, around all that does not train
        found = scores(model, "heads", importance, pictures(1, *PICTURES), LABELS)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and not value.requires_grad for value in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(value.shape == (3,) and torch.isfinite(value).all() and value.max() > 0 for value in found.values())


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_every_importance_scores_every_unit_of_every_model(importance, kind):
    model, inputs = small(kind), pictures(1, *PICTURES)
    shapes = {"mlp": (48,), "heads": (3,), "head_width": (2, 3, 8), "blocks": ()}
    if kind in PLAIN:
        shapes["embedding"] = (24,)
    if importance in ("std", "flap"):
        del shapes["blocks"]
    if importance == "flap":
        shapes = {part: shape for part, shape in shapes.items() if part in ("mlp", "heads")}
    for part, shape in shapes.items():
        found = scores(model, part, importance, inputs, LABELS)
        assert {tuple(value.shape) for value in found.values()} == {shape}
        assert all(torch.isfinite(value).all() for value in found.values())
        assert importance == "flap" or all((value >= 0).all() for value in found.values())


def test_random_scores_are_the_same_each_time_and_differ_between_layers():
    one, other = (scores(small(), "mlp", "random") for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["blocks.0.mlp"], one["blocks.1.mlp"])


def test_another_seed_is_another_draw_of_what_goes_at_random():
    first, again, other = (prune_mlp(small(), 0.5, "random", seed=seed) for seed in (0, 0, 1))
    kept = [one.recipe["plans"][0]["kept"] for one in (first, again, other)]
    assert kept[0] == kept[1] and all(kept[0][name] != kept[2][name] for name in kept[0])
