"""What the folder says of a model's tokens, against what timm's own forward does with them."""

import pytest
import timm
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.dynamic.early_exit.exits import add_exits
from lightvit_lab.errors import LabError
from lightvit_lab.models import timm_parts


def vit(**settings):
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 5}
    torch.manual_seed(0)
    return timm.models.vision_transformer.VisionTransformer(**{**sizes, **settings}).eval()


CASES = [  # settings, picture, grid by hand
    ({}, (32, 32), (4, 4)),
    ({"img_size": 64, "patch_size": (4, 16)}, (64, 64), (16, 4)),
    ({"patch_size": (16, 4)}, (32, 32), (2, 8)),
    ({"img_size": (24, 40)}, (24, 40), (3, 5)),
    ({"img_size": (24, 40), "patch_size": (8, 4)}, (24, 40), (3, 10)),
    ({"dynamic_img_size": True}, (48, 16), (6, 2)),
    ({"dynamic_img_size": True, "patch_size": (8, 4)}, (16, 40), (2, 10)),
    ({"dynamic_img_size": True, "dynamic_img_pad": True}, (20, 41), (3, 6)),
    ({"img_size": (24, 40), "reg_tokens": 4, "class_token": False, "global_pool": "avg"}, (24, 40), (3, 5)),
    ({"img_size": (24, 40), "reg_tokens": 4, "no_embed_class": True}, (24, 40), (3, 5)),
]


@pytest.mark.parametrize("settings, size, grid", CASES)
def test_the_grid_is_where_a_change_of_one_patch_changes_a_token(settings, size, grid):
    model, picture = vit(**settings), torch.zeros(1, 3, *size)
    height, width = model.patch_embed.patch_size
    row, column = grid[0] - 1, grid[1] // 2
    changed = picture.clone()
    changed[:, :, row * height:(row + 1) * height, column * width:(column + 1) * width] = 1
    before, after = timm_parts.embed(model, picture), timm_parts.embed(model, changed)
    found = timm_parts.layout(model, picture, before.shape[1])
    assert found[1:] == grid
    assert (before != after).any(-1)[0].nonzero().flatten().tolist() == [found.prefix + row * found.columns + column]


HEADS = [{}, {"global_pool": "avg"}, {"global_pool": "avg", "class_token": False},
         {"global_pool": "avg", "reg_tokens": 3}, {"global_pool": "avg", "reg_tokens": 4, "class_token": False},
         {"global_pool": "avg", "reg_tokens": 2, "pool_include_prefix": True}, {"reg_tokens": 4},
         {"global_pool": "max"}, {"global_pool": "avgmax", "reg_tokens": 1}, {"global_pool": "map", "reg_tokens": 1}]


@pytest.mark.parametrize("settings", HEADS, ids=str)
def test_the_head_reads_the_tokens_by_which_the_logits_have_a_gradient(settings):
    model = vit(**settings)
    tokens = torch.randn(1, 200, 24, requires_grad=True)      # so many that each is some channel's highest
    model.forward_head(tokens).square().sum().backward()
    expected = tokens.grad[0].abs().sum(-1).nonzero().flatten()
    found = torch.arange(200)[timm_parts.head_tokens(model)]
    few = settings.get("global_pool") == "max"
    assert set(expected.tolist()) <= set(found.tolist()) if few else torch.equal(found, expected)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "lab_vit", "lab_cct", "lab_lightvit", "distilled"])
def test_the_head_of_distilled_and_lab_models_reads_the_tokens_by_which_the_logits_have_a_gradient(name):
    model = models.create_model("lab_vit", distilled=True) if name == "distilled" else models.create_model(name)
    width = 192 if name.startswith("deit") else model.norm.normalized_shape[0]
    tokens = torch.randn(1, 17, width, requires_grad=True)
    head = (lambda values: model.head(model.pool(values))) if name == "lab_cct" else model.forward_head
    head(tokens).square().sum().backward()
    expected = tokens.grad[0].abs().sum(-1).nonzero().flatten()
    assert torch.equal(torch.arange(17)[timm_parts.head_tokens(model)], expected)


@pytest.mark.parametrize("name, settings, size, tokens, expected", [
    ("lab_vit", {}, (32, 32), 65, (1, 8, 8)), ("lab_vit", {"distilled": True, "patch_size": 8}, (32, 32), 18, (2, 4, 4)),
    ("lab_cct", {}, (32, 32), 16, (0, 4, 4)), ("lab_cct", {"stem": 0}, (32, 32), 64, (0, 8, 8)),
    ("lab_cct", {"image_size": 36}, (36, 36), 25, (0, 5, 5)),
    ("lab_lightvit", {}, (32, 32), 68, (4, 8, 8)), ("lab_lightvit", {}, (32, 32), 20, (4, 4, 4)),
    ("lab_lightvit", {}, (12, 20), 19, (4, 3, 5)), ("lab_lightvit", {}, (12, 20), 10, (4, 2, 3)),
    ("lightvit_tiny", {}, (40, 56), 8 + 35, (8, 5, 7)),
])
def test_the_lab_s_models_say_their_grid(name, settings, size, tokens, expected):
    model = models.create_model(name, **settings)
    assert timm_parts.layout(model, torch.zeros(1, 3, *size), tokens) == expected
    seen = []
    model.norm.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    model(torch.zeros(2, 3, *size))
    if name != "lab_lightvit" or tokens in (20, 10):      # the last stage's
        assert seen == [tokens] or name == "lightvit_tiny"


def test_models_around_a_model_are_asked_through():
    exits, inputs = add_exits(models.create_model("lab_vit"), [2]), torch.zeros(1, 3, 32, 32)
    wide = vit(img_size=(24, 40), reg_tokens=2)
    assert timm_parts.layout(exits, inputs, 65) == (1, 8, 8) and timm_parts.head_tokens(exits) == slice(0, 1)
    for wrapped in (nn.Sequential(nn.Identity(), wide), torch.compile(wide), nn.DataParallel(torch.compile(wide))):
        assert timm_parts.layout(wrapped, torch.zeros(1, 3, 24, 40), 18) == (3, 3, 5)


@pytest.mark.parametrize("settings, size, grid", CASES)
def test_token_counts_are_those_of_a_forward_on_pictures_of_the_model_s_size(settings, size, grid):
    model = vit(**settings)
    entering = timm_parts.embed(model, torch.zeros(1, 3, *model.patch_embed.img_size))
    counts = timm_parts.token_counts("test", model)
    assert counts[0] == entering.shape[1] == counts[1] + torch.Size(timm_parts.grid("test", model)).numel()


def test_tokens_in_front_of_models_that_do_not_count_them_are_those_that_they_hold():
    own = nn.Module()
    own.cls_token, own.dist_token = nn.Parameter(torch.zeros(1, 1, 3)), nn.Parameter(torch.zeros(1, 1, 3))
    assert timm_parts.num_prefix_tokens(own) == 2
    assert timm_parts.num_prefix_tokens(models.create_model("mixer_s32_224")) == 0


def test_models_that_say_nothing_and_tokens_that_are_no_grid_are_refused_with_what_mends_it():
    with pytest.raises(LabError, match=r"Linear does not say how its tokens lie.*by a method grids\(height, width\)"):
        timm_parts.layout(nn.Linear(2, 2), torch.zeros(1, 3, 32, 32), 16)
    with pytest.raises(LabError, match="9 image tokens, where VisionTransformer makes 4 x 4 of a picture of 32 x 32"):
        timm_parts.layout(vit(), torch.zeros(1, 3, 32, 32), 10)
    with pytest.raises(LabError, match="prune: LightViT does not say how many tokens"):
        timm_parts.token_counts("prune", models.create_model("lab_lightvit"))


@pytest.mark.parametrize("wrap, word", [(torch.compile, "compiled._orig_mod"), (nn.DataParallel, "wrapped.module")])
def test_what_takes_a_model_apart_refuses_torch_s_wrappers_in_a_sentence(wrap, word):
    model = wrap(models.create_model("lab_vit"))
    for take in (timm_parts.attention_modules, lambda model: timm_parts.require_plain_vit("exits", model)):
        with pytest.raises(LabError, match=word):
            take(model)
