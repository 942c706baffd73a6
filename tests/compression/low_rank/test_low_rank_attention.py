"""Low-rank attention: exact where the rank is full, and by definition where it is not."""

import copy
import json

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import checkpoint, models, profiling
from lightvit_lab.compression.low_rank.factors import LowRankLinear, factorize
from lightvit_lab.compression.low_rank.attention import (
    NystromAttention, apply_low_rank_attention, pseudo_inverse, replace_attention, segment_means)
from lightvit_lab.errors import LabError
from lightvit_lab.explain import record_attention

INPUTS = pictures(1, 4, 3, 16, 16)


def small(name: str = "lab_vit", **arguments) -> nn.Module:
    return fill(models.create_model(name, **{"image_size": 16, "depth": 2, **arguments}))


def deit(**arguments) -> nn.Module:
    return fill(models.create_model("deit_tiny_patch16_224", img_size=16, patch_size=4, depth=2, embed_dim=48,
                                    num_heads=3, **arguments))


def cct() -> nn.Module:
    return fill(models.create_model("lab_cct", image_size=32, widths=(32, 32)))


CASES = [(small, INPUTS, 17), (deit, INPUTS, 17), (lambda: deit(qk_norm=True), INPUTS, 17),
         (cct, pictures(2, 4, 3, 32, 32), 16)]


def written_out(model: nn.Module) -> nn.Module:
    """The same with attention written out, not fused."""
    for module in model.modules():
        if isinstance(getattr(module, "fused", None), bool):
            module.fused = False
    return model


@pytest.mark.parametrize("make, inputs, tokens", CASES)
@pytest.mark.parametrize("method, limit", [("linformer", 1e-5), ("nystrom", 1e-3)])
def test_as_many_segments_as_tokens_give_exact_attention(make, inputs, tokens, method, limit):
    model = make()
    with torch.no_grad():
        logits, replaced = model(inputs), replace_attention(model, method, tokens)
        assert (replaced(inputs) - logits).abs().max() < limit * logits.abs().max().clamp(min=1)
        assert (written_out(replaced)(inputs) - logits).abs().max() < limit * logits.abs().max().clamp(min=1)


def test_a_trained_teacher_is_rebuilt_exactly_at_full_rank_by_nystroem():
    model = checkpoint.load("zoo:lab_vit_teacher/cifar10")
    inputs = pictures(3, 4, 3, 32, 32)
    with torch.no_grad():
        assert (replace_attention(model, "nystrom", 65)(inputs) - model(inputs)).abs().max() < 1e-3


def test_nystroem_is_its_three_factors_with_a_true_pseudo_inverse():
    model = small().double()
    attention = replace_attention(model, "nystrom", 5).blocks[0].attn
    attention.iterations = 40
    tokens = model.embed(INPUTS.double())
    query, key, value = model.blocks[0].attn.split_heads(tokens)
    few_queries, few_keys = (torch.cat([part[:, :, :1], part[:, :, 1:].unflatten(2, (4, 4)).mean(3)], dim=2)
                             for part in (query, key))
    left, between, right = ((one @ two.mT * model.blocks[0].attn.scale).softmax(-1)
                            for one, two in ((query, few_keys), (few_queries, few_keys), (few_queries, key)))
    wanted = left @ torch.linalg.pinv(between) @ right @ value
    wanted = model.blocks[0].attn.proj(wanted.transpose(1, 2).flatten(2))
    assert torch.allclose(attention(tokens), wanted, atol=1e-6 * wanted.abs().max().item())


def test_linformer_attends_to_mixtures_of_keys_and_values():
    model = small()
    attention = replace_attention(model, "linformer", 5).blocks[0].attn
    tokens = model.embed(INPUTS)
    query, key, value = model.blocks[0].attn.split_heads(tokens)
    mixtures = [torch.stack([part[:, :, 0], *(part[:, :, 1 + 4 * run : 5 + 4 * run].mean(2) for run in range(4))],
                            dim=2) for part in (key, value)]
    shares = (query @ mixtures[0].mT * model.blocks[0].attn.scale).softmax(-1)
    wanted = model.blocks[0].attn.proj((shares @ mixtures[1]).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(tokens), wanted, atol=1e-5)
    assert dict(attention.named_parameters())["means"].shape == (5, 17)         # learned


def test_segments_are_runs_in_reading_order_with_the_class_token_alone():
    means = segment_means(7, 1, 4)
    assert means.tolist() == [[1, 0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0, 0],
                              [0, 0, 0, 0, 0, 0.5, 0.5]]
    uneven = segment_means(8, 1, 4)
    assert torch.allclose(uneven.sum(1), torch.ones(4)) and sorted((uneven > 0).sum(1).tolist()) == [1, 2, 2, 3]


def test_the_pseudo_inverse_is_that_of_linear_algebra():
    torch.manual_seed(0)
    matrix = torch.randn(3, 8, 8).mul(2).softmax(-1)
    assert torch.allclose(pseudo_inverse(matrix, 20), torch.linalg.pinv(matrix), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method, macs", [
    ("linformer", 2 * 5 * 17 + 2 * 17 * 5), ("nystrom", 2 * 5 * 17 + 5 * 5 + 2 * 5 * 17 + 5 * 5 + 2 * 17 * 5)])
def test_multiply_accumulates_are_counted_as_worked_out_by_hand(method, macs):
    model = small()
    linear = 17 * (64 * 192 + 64 * 64)
    iterations = 14 * 4 * 4 * 5**3 if method == "nystrom" else 0              # 4 products each, in 4 heads
    counted = profiling.count(replace_attention(model, method, 5), (3, 16, 16))
    assert counted.by_module["blocks.0.attn"] == linear + 64 * macs + iterations and counted.uncounted == {}


def test_the_new_model_trains_stays_a_model_of_its_plan_and_leaves_the_old_one_untouched():
    model = small()
    before = copy.deepcopy(model.state_dict())
    replaced = replace_attention(model, "linformer", 5)
    replaced(INPUTS).square().sum().backward()
    assert replaced.blocks[0].attn.means.grad.abs().sum() > 0
    plan = json.loads(json.dumps(replaced.recipe["plans"]))[0]
    built = apply_low_rank_attention(small().to("meta"), plan)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in replaced.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_low_rank_attention_and_low_rank_layers_go_together():
    both = factorize(replace_attention(small(), "nystrom", 5), 8, calibration=INPUTS)
    assert isinstance(both.blocks[0].attn, NystromAttention) and isinstance(both.blocks[0].attn.qkv, LowRankLinear)
    assert replace_attention(factorize(small(), 8), "nystrom", 5)(INPUTS).shape == (4, 10)


def test_what_reads_attention_refuses_a_model_that_has_no_square_of_weights():
    with pytest.raises(LabError, match="blocks.0.attn|no attention"):
        with record_attention(replace_attention(small(), "linformer", 5)):
            pass


@pytest.mark.parametrize("arguments, words", [
    ({"method": "nystroem"}, 'Did you mean "nystrom"'), ({"rank": 0}, "2 <= rank <= 17"),
    ({"rank": 1}, "2 <= rank <= 17"),
    ({"rank": 18}, "2 <= rank <= 17"), ({"rank": 4.5}, "whole number"), ({"rank": True}, "whole number"),
])
def test_bad_arguments_are_refused_with_what_is_allowed(arguments, words):
    with pytest.raises(LabError, match=words):
        replace_attention(small(), **{"rank": 5, **arguments})


def test_models_and_tokens_that_do_not_fit_are_refused():
    replaced = replace_attention(small(), "linformer", 5)
    with pytest.raises(LabError, match="replaced before"):
        replace_attention(replaced, "nystrom", 5)
    with pytest.raises(LabError, match="LightViTAttention"):
        replace_attention(models.create_model("lab_lightvit"), rank=5)
    with pytest.raises(LabError, match="9 tokens"):
        replaced.blocks[0].attn(torch.zeros(1, 9, 64))
    with pytest.raises(LabError, match="mask"):
        replaced.blocks[0].attn(torch.zeros(1, 17, 64), attn_mask=torch.zeros(17, 17))
