"""Maps over the picture, against timm's own forward with hooks and sums that are written out here."""

import pytest
import timm
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import (class_attention, grad_cam, record_attention, relevance,
                                  relevance_map, rollout, rollout_map)
from lightvit_lab.explain.layerwise import attention_relevance
from lightvit_lab.explain.maps import image_part


def vit(**settings):
    kind = timm.models.deit.VisionTransformerDistilled if settings.pop("distilled", False) else (
        timm.models.vision_transformer.VisionTransformer)
    sizes = {"img_size": (24, 40), "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3,
             "num_classes": 5}
    return fill(kind(**{**sizes, **settings}))


# settings, pictures, tokens in front, grid, last tokens that the head reads: all by hand
AVERAGE = {"global_pool": "avg"}
CASES = [
    ({}, (24, 40), 1, (3, 5), [0]),
    ({"reg_tokens": 4}, (24, 40), 5, (3, 5), [0]),
    (AVERAGE, (24, 40), 1, (3, 5), range(1, 16)),
    ({**AVERAGE, "class_token": False}, (24, 40), 0, (3, 5), range(15)),
    ({**AVERAGE, "class_token": False, "reg_tokens": 4}, (24, 40), 4, (3, 5), range(4, 19)),
    ({**AVERAGE, "reg_tokens": 2, "pool_include_prefix": True}, (24, 40), 3, (3, 5), range(18)),
    ({"distilled": True}, (24, 40), 2, (3, 5), [0, 1]),
    ({"distilled": True, "img_size": (8, 24), "patch_size": (4, 8)}, (8, 24), 2, (2, 3), [0, 1]),
    ({"img_size": 64, "patch_size": (4, 16)}, (64, 64), 1, (16, 4), [0]),
    ({"patch_size": (16, 4), "img_size": 32}, (32, 32), 1, (2, 8), [0]),
    ({"dynamic_img_size": True, "img_size": 32}, (48, 16), 1, (6, 2), [0]),
    ({**AVERAGE, "dynamic_img_size": True, "img_size": 32, "reg_tokens": 1}, (16, 56), 2, (2, 7), range(2, 16)),
    ({"qk_norm": True, "init_values": 0.5, "pre_norm": True}, (24, 40), 1, (3, 5), [0]),
]


def written_attention(model, inputs, target):
    """The weights of the one block and their gradient for a class, by timm's written form, in float64."""
    attention, kept = model.blocks[0].attn, []
    attention.fused_attn = False

    def keep(_module, _given, output):
        output.retain_grad()
        kept.append(output)

    handle = attention.attn_drop.register_forward_hook(keep)
    model(inputs)[:, target].sum().backward()
    handle.remove()
    attention.fused_attn = True
    model.zero_grad()
    return kept[0].detach(), kept[0].grad


@pytest.mark.parametrize("settings, size, prefix, grid, read", CASES)
def test_maps_are_the_rows_of_the_tokens_that_the_head_reads_on_the_model_s_grid(
        settings, size, prefix, grid, read):
    model, inputs, read = vit(**settings), pictures(0, 2, 3, *size), list(read)
    weights, gradient = written_attention(model, inputs, 3)
    count = weights.shape[-1]
    bears = torch.eye(count) + (weights * gradient).clamp_min(0).mean(1)
    mixed = weights.mean(1) + torch.eye(count)
    flow = mixed / mixed.sum(-1, keepdim=True)
    for found, tokens in ((relevance_map(model, inputs, 3), bears), (rollout_map(model, inputs), flow),
                          (class_attention(model, inputs), weights.mean(1))):
        expected = sum(tokens[:, row, prefix:] for row in read) / len(read)
        assert found.shape == (2, *grid) and found.abs().max() > 0
        assert torch.allclose(found, expected.reshape(2, *grid), atol=1e-5)


@pytest.mark.parametrize("settings, size, prefix, grid, read", CASES)
def test_grad_cam_lays_tokens_on_the_same_grid(settings, size, prefix, grid, read):
    model, inputs = vit(**settings), pictures(0, 2, 3, *size)
    seen = []
    handle = model.blocks[0].norm1.register_forward_hook(lambda _, __, output: seen.append(output))
    slope = torch.autograd.grad(model(inputs)[:, 2].sum(), seen[0])[0][:, prefix:]
    handle.remove()
    tokens = seen[0][:, prefix:]
    expected = (tokens * slope.mean(1, keepdim=True)).sum(-1).clamp_min(0).reshape(2, *grid)
    assert torch.allclose(grad_cam(model, inputs, 2), expected, atol=1e-6)


@torch.no_grad()
def test_maps_are_the_class_token_s_row_without_the_class_token_in_reading_order():
    model, inputs = fill(models.create_model("lab_vit_student")), pictures(0, 2, 3, 32, 32)
    with record_attention(model) as maps:
        model(inputs)
    assert torch.equal(class_attention(model, inputs)[1, 2, 5], maps[-1][1, :, 0, 1 + 2 * 8 + 5].mean())
    assert torch.equal(class_attention(model, inputs, block=0), maps[0].mean(1)[:, 0, 1:].view(2, 8, 8))
    assert torch.equal(rollout_map(model, inputs, fusion="max")[0, 7, 0], rollout(maps, "max")[0, 0, 1 + 56])
    assert torch.allclose(relevance_map(model, inputs, 3)[1, 0, 1], relevance(model, inputs, 3)[1, 0, 2])


@pytest.mark.parametrize("rule", ["attention", "layerwise"])
def test_a_distilled_model_of_the_lab_is_explained_by_both_of_its_heads(rule):
    model, inputs = fill(models.create_model("lab_vit_student", distilled=True)), pictures(0, 1, 3, 32, 32)
    both = relevance(model, inputs, 3, rule)[:, :2, 2:]
    assert (both.abs().amax(-1) > 0).all()
    assert torch.allclose(relevance_map(model, inputs, 3, rule), both.mean(1).view(1, 8, 8), atol=1e-5)


def test_of_two_heads_one_that_answers_nothing_hands_back_nothing_and_equal_ones_a_half_each():
    model, inputs, target = (fill(models.create_model("lab_vit_student", distilled=True)),
                             pictures(0, 1, 3, 32, 32), torch.tensor([3]))
    model.head_dist.load_state_dict(model.head.state_dict())
    with torch.no_grad():
        model.dist_token.copy_(model.cls_token)
        model.pos_embed[:, 1] = model.pos_embed[:, 0]
    both = attention_relevance(model, inputs, target)[-1]
    nn.init.zeros_(model.head_dist.weight), nn.init.zeros_(model.head_dist.bias)
    one = attention_relevance(model, inputs, target)[-1]
    assert torch.allclose(both[:, :, 0], both[:, :, 1], atol=1e-6)
    model.head_dist = None
    alone = attention_relevance(model, inputs, target)[-1]
    assert torch.allclose(one, alone, atol=1e-6) and both[:, :, 0].abs().max() > 1e-4


def test_models_without_a_class_token_have_maps():
    assert rollout_map(models.create_model("lab_cct"), torch.randn(1, 3, 32, 32)).shape == (1, 4, 4)
    odd = models.create_model("lab_cct", image_size=36)
    assert relevance_map(odd, torch.randn(2, 3, 36, 36), 1).shape == (2, 5, 5)


def test_tokens_that_form_no_grid_and_maps_that_are_no_square_are_refused():
    model = models.create_model("lab_vit_student")
    with pytest.raises(LabError, match="49 image tokens, where VisionTransformer makes 8 x 16 of a picture of 32 x 64"):
        image_part(model, torch.randn(1, 3, 32, 64), torch.rand(1, 50, 50))
    with pytest.raises(LabError, match="window, aggregation, broadcast instead of one square map"):
        class_attention(models.create_model("lab_lightvit"), torch.randn(1, 3, 32, 32))
    light = models.create_model("lab_lightvit")
    with pytest.raises(LabError, match="tokens stand window by window; give layer=model.norm"):
        grad_cam(light, torch.randn(1, 3, 32, 32), layer=light.stages[0][0].norm1)


def test_grad_cam_of_lightvit_s_last_norm_leaves_out_the_global_tokens():
    model, inputs = fill(models.create_model("lab_lightvit")), pictures(0, 2, 3, 24, 40)
    tokens = model.run_stages(inputs)[-1][0]
    seen = model.norm(tokens)
    slope = torch.autograd.grad(model.forward_head(seen)[:, 1].sum(), seen)[0][:, 4:]
    expected = (seen[:, 4:] * slope.mean(1, keepdim=True)).sum(-1).clamp_min(0).view(2, 3, 5)
    assert torch.allclose(grad_cam(model, inputs, 1, layer=model.norm), expected, atol=1e-5)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: nn.DataParallel(torch.compile(model))])
def test_models_in_torch_s_wrappers_are_explained_as_the_model_inside(wrap):
    model, inputs = fill(models.create_model("lab_vit_student")), pictures(0, 1, 3, 32, 32)
    for explain in (relevance_map, rollout_map, class_attention, grad_cam):
        assert torch.equal(explain(wrap(model), inputs, 3), explain(model, inputs, 3))
