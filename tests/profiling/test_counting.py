import re

import pytest
import torch
from torch import nn

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError

PUBLISHED_PARAMS = {"deit_tiny_patch16_224": 5_717_416, "deit_small_patch16_224": 22_050_664}


def _vit_macs(size, patch, dim, depth, classes):
    patches = (size // patch) ** 2
    tokens = patches + 1
    return patches * 3 * patch**2 * dim + depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim) + dim * classes


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size, patch, dim, depth", [(32, 4, 64, 2), (32, 8, 64, 4), (64, 8, 48, 3)])
def test_fused_attention_is_counted_like_the_closed_form(fused, size, patch, dim, depth):
    model = models.create_model("lab_vit", image_size=size, patch_size=patch, dim=dim, depth=depth, embedding="patch", fused=fused)
    assert profiling.count(model, (3, size, size)).macs == _vit_macs(size, patch, dim, depth, 10)


@pytest.mark.parametrize("name, dim", [("deit_tiny_patch16_224", 192), ("deit_small_patch16_224", 384)])
def test_deit_is_counted_as_timm_and_the_papers_have_it(name, dim):
    cost = profiling.count(models.create_model(name))
    assert (cost.params, cost.macs, cost.flops) == (PUBLISHED_PARAMS[name], _vit_macs(224, 16, dim, 12, 1000), 2 * cost.macs)
    assert cost.weight_bytes == 4 * cost.params


def test_convolutions_are_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert profiling.count(model, (3, 16, 16)).macs == 8 * 8 * 8 * 27 + 8 * 8 * 8 * 9


def test_modules_sum_to_the_whole():
    cost = profiling.count(models.create_model("lab_vit_student"), (3, 32, 32))
    parts = [macs for name, macs in cost.by_module.items()
             if re.fullmatch(r"VisionTransformer\.(patch_embed|blocks\.\d|head)", name)]
    assert len(parts) == 6 and sum(parts) == cost.macs


def test_the_model_is_left_untouched():
    model = models.create_model("lab_vit_student").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profiling.count(model, (3, 32, 32))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_picture_the_model_does_not_take_is_named():
    with pytest.raises(LabError, match=r"does not take an image of \(3, 28, 28\)"):
        profiling.count(models.create_model("lab_vit_student"), (3, 28, 28))
