import math

import pytest
import torch
from torch import nn

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import curves, insertion_deletion


class FirstPixels(nn.Module):
    """Two classes; the logit of class 1 is the sum of the picture, the other's is 0."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        total = pictures.sum(dim=(1, 2, 3))
        return torch.stack([0 * total, total], dim=1)


def chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_pixels_come_and_go_in_the_order_of_the_map():
    pictures = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.2]]])                    # order of values: 2, 4, 8, 1
    found = insertion_deletion(FirstPixels(), pictures, maps, 1, steps=4)
    assert found.insertion[0].tolist() == pytest.approx([chance(total) for total in (0, 2, 6, 14, 15)])
    assert found.deletion[0].tolist() == pytest.approx([chance(total) for total in (15, 13, 9, 1, 0)])
    ends = (chance(0) + chance(15)) / 2
    assert found.insertion_auc.item() == pytest.approx((ends + chance(2) + chance(6) + chance(14)) / 4)
    assert found.deletion_auc.item() == pytest.approx((ends + chance(13) + chance(9) + chance(1)) / 4)


def test_the_target_is_each_picture_s_own_and_the_predicted_one_without():
    pictures = torch.stack([torch.ones(1, 2, 2), -torch.ones(1, 2, 2)])
    found = insertion_deletion(FirstPixels(), pictures, torch.rand(2, 2, 2), steps=2)
    assert found.insertion[:, -1].tolist() == pytest.approx([chance(4), chance(4)])
    assert insertion_deletion(FirstPixels(), pictures, torch.rand(2, 2, 2), [0, 1], 2).insertion[:, -1].tolist() == (
        pytest.approx([chance(-4), chance(-4)]))


def test_ties_follow_in_a_random_order_that_hangs_on_the_seed_alone():
    places = curves.ranks(torch.zeros(2, 8, 8), seed=0)
    assert torch.equal(places[0], places[1]) and places[0].flatten().sort().values.tolist() == list(range(64))
    assert not torch.equal(places[0].flatten(), torch.arange(64))
    assert torch.equal(places, curves.ranks(torch.zeros(2, 8, 8), seed=0))
    assert not torch.equal(places, curves.ranks(torch.zeros(2, 8, 8), seed=1))


def test_a_patch_s_pixels_are_all_taken_before_the_next_patch():
    maps = torch.tensor([[[4.0, 3.0], [1.0, 2.0]]]).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    quarters = curves.ranks(maps, seed=5)[0] // 16
    assert torch.equal(quarters, torch.tensor([[0, 1], [3, 2]]).repeat_interleave(4, 0).repeat_interleave(4, 1))


def test_a_small_batch_that_shares_passes_gives_what_single_steps_give():
    torch.manual_seed(0)
    model, pictures, maps = models.create_model("lab_vit_student"), torch.randn(3, 3, 32, 32), torch.rand(3, 8, 8)
    found = insertion_deletion(model.train(), pictures, maps, 4, steps=7)
    assert model.training and found.deletion.shape == (3, 8) and not found.deletion.requires_grad
    places = curves.ranks(maps.repeat_interleave(4, 1).repeat_interleave(4, 2))[:, None]
    model.eval()
    for step in range(8):
        kept = pictures * (places >= round(step * 1024 / 7))
        assert torch.allclose(model(kept).softmax(1)[:, 4], found.deletion[:, step], atol=1e-5)


def test_a_map_of_the_object_is_deleted_faster_by_a_model_that_looks_at_it():
    pictures = data.load("shapes", "test", count=6)
    seen = pictures.masks[:, None]

    class Looker(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            total = (inputs.abs() * seen.repeat(len(inputs) // len(seen), 1, 1, 1)).mean(dim=(1, 2, 3)) * 20
            return torch.stack([0 * total, total - 1], dim=1)

    right, wrong = pictures.masks.float(), 1 - pictures.masks.float()
    found = [insertion_deletion(Looker(), pictures.inputs, maps, 1) for maps in (right, wrong)]
    assert (found[0].deletion_auc < found[1].deletion_auc).all()
    assert (found[0].insertion_auc > found[1].insertion_auc).all()


@pytest.mark.parametrize("maps, settings, words", [
    (torch.rand(1, 4, 4), {}, "1 maps for 2 pictures"),
    (torch.rand(2, 4, 4), {"steps": 0}, "1 <= steps"),
    (torch.rand(2, 4, 4), {"steps": 65}, "steps <= 64"),
    (torch.rand(2, 4, 4), {"target": 2}, "target 2 is out of range"),
    (torch.full((2, 4, 4), torch.nan), {}, "not finite"),
])
def test_bad_input_is_refused(maps, settings, words):
    with pytest.raises(LabError, match=words):
        insertion_deletion(FirstPixels(), torch.randn(2, 1, 8, 8), maps, **settings)
