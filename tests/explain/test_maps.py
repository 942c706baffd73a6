import pytest
import torch
from drawn_weights import fill, pictures

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import class_attention, record_attention, relevance, relevance_map, rollout, rollout_map
from lightvit_lab.explain.maps import image_part


@torch.no_grad()
def test_maps_are_the_class_token_s_row_without_the_class_token_in_reading_order():
    model, inputs = fill(models.create_model("lab_vit_student")), pictures(0, 2, 3, 32, 32)
    with record_attention(model) as maps:
        model(inputs)
    assert torch.equal(class_attention(model, inputs)[1, 2, 5], maps[-1][1, :, 0, 1 + 2 * 8 + 5].mean())
    assert torch.equal(class_attention(model, inputs, block=0), maps[0].mean(1)[:, 0, 1:].view(2, 8, 8))
    assert torch.equal(rollout_map(model, inputs, fusion="max")[0, 7, 0], rollout(maps, "max")[0, 0, 1 + 56])
    assert torch.allclose(relevance_map(model, inputs, 3)[1, 0, 1], relevance(model, inputs, 3)[1, 0, 2])


def test_models_without_a_class_token_and_pictures_that_are_not_square_have_maps():
    compact = models.create_model("lab_cct")
    assert rollout_map(compact, torch.randn(1, 3, 32, 32)).shape == (1, 4, 4)
    wide = models.create_model("vit_tiny_patch16_224", img_size=(32, 96), depth=1)
    assert class_attention(wide, torch.randn(2, 3, 32, 96)).shape == (2, 2, 6)
    distilled = models.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=1)
    assert class_attention(distilled, torch.randn(1, 3, 64, 64)).shape == (1, 4, 4)


def test_tokens_that_form_no_grid_are_refused():
    model = models.create_model("lab_vit_student")
    with pytest.raises(LabError, match="49 image tokens, where VisionTransformer makes 8 x 16 of a picture of 32 x 64"):
        image_part(model, torch.randn(1, 3, 32, 64), torch.rand(1, 50, 50))
