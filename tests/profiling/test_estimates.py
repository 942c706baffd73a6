"""The closed formulas of a ViT's cost against real models."""

import pytest
import torch

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError


def counted(name, **sizes):
    with torch.device("meta"):
        model = models.create_model(name, **sizes)
    return profiling.count(model, (3, *2 * (sizes.get("image_size", 224),)))


@pytest.mark.parametrize("sizes", [
    dict(image_size=32, patch_size=4, dim=64, depth=4, num_classes=10),
    dict(image_size=32, patch_size=32, dim=64, depth=1, num_classes=10),
    dict(image_size=224, patch_size=16, dim=384, depth=6, num_classes=1000),
    dict(image_size=768, patch_size=8, dim=128, depth=2, num_classes=100)])
def test_formulas_say_what_is_counted_in_a_model_of_these_sizes(sizes):
    found = profiling.estimate_vit(**sizes)
    real = counted("lab_vit", embedding="patch", num_heads=4, **sizes)
    assert (found.params, found.macs) == (real.params, real.macs)
    assert found.tokens == (sizes["image_size"] // sizes["patch_size"]) ** 2 + 1


@pytest.mark.parametrize("name, dim", [("deit_tiny_patch16_224", 192), ("vit_base_patch16_224", 768)])
def test_formulas_say_what_is_counted_in_timms_models(name, dim):
    found, real = profiling.estimate_vit(dim=dim), counted(name)
    assert (found.params, found.macs) == (real.params, real.macs)


def test_attentions_share_is_half_of_a_block_at_six_widths_of_tokens():
    found = profiling.estimate_vit(image_size=16 * 33, patch_size=16, dim=(33**2 + 1) // 6, depth=10**6, num_classes=1)
    assert found.tokens == 1090 and found.attention_share == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("wrong, said", [(dict(image_size=100), "96 or 112"), (dict(dim=0), "dim=0"),
                                         (dict(depth=-1), "depth=-1"), (dict(patch_size=0), "patch_size=0")])
def test_sizes_that_make_no_model_are_refused(wrong, said):
    with pytest.raises(LabError, match=said):
        profiling.estimate_vit(**wrong)
