import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lightvit_lab import data
from lightvit_lab.training.augment import Batch, Batches
from lightvit_lab.training.objectives import label_loss, share_right

CPU = torch.device("cpu")


def _noise(count: int = 12, size: int = 32, channels: int = 3) -> data.Pictures:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    return data.Pictures("noise", "train", pixels, torch.arange(count) % 3, ("a", "b", "c"),
                         torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]))


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_without_augmentation_are_those_of_the_set(channels):
    pictures = _noise(channels=channels)
    batch = Batches(pictures, 8, 0, (), CPU)(1)
    inputs, labels = pictures.batch(batch.index)
    assert torch.allclose(batch.inputs, inputs, atol=1e-5) and torch.equal(batch.labels, labels)


def test_a_step_is_drawn_alike_whatever_was_drawn_before():
    one, other = (Batches(_noise(), 8, 0, ("flip", "crop", "mixup", "cutmix"), CPU) for _ in range(2))
    for step in range(1, 7):
        one(step)
    assert torch.equal(one(7).inputs, other(7).inputs) and one(7).mix == other(7).mix
    assert not torch.equal(one(7).index, other(8).index)


def test_flips_are_mirror_images_and_about_half_of_the_pictures():
    pictures, flipped = _noise(), 0
    batches = Batches(pictures, 12, 0, ("flip",), CPU)
    for step in range(1, 21):
        batch = batches(step)
        for seen, own in zip(batch.inputs, pictures.batch(batch.index)[0]):
            mirrored = torch.allclose(seen, own.flip(-1), atol=1e-5)
            assert mirrored or torch.allclose(seen, own, atol=1e-5)
            flipped += mirrored
    assert 85 < flipped < 155      # of 240: four standard deviations


def test_crops_are_those_of_a_picture_padded_by_reflection_and_reach_every_shift():
    pictures, shifts = _noise(), set()
    batches = Batches(pictures, 12, 0, ("crop",), CPU)
    for step in range(1, 16):
        batch = batches(step)
        padded = F.pad(pictures.batch(batch.index)[0], (4, 4, 4, 4), mode="reflect")
        for seen, wide in zip(batch.inputs, padded):
            found = [(y, x) for y in range(9) for x in range(9)
                     if torch.allclose(seen, wide[:, y : y + 32, x : x + 32], atol=1e-5)]
            assert len(found) == 1
            shifts |= set(found)
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(9))


def test_mixup_is_the_weighted_mean_of_the_two_pictures_it_names():
    pictures = _noise()
    batch = Batches(pictures, 8, 0, ("mixup",), CPU)(3)
    own, other = pictures.batch(batch.index)[0], pictures.batch(batch.partner)[0]
    assert 0 < batch.mix < 1
    assert torch.allclose(batch.inputs, batch.mix * own + (1 - batch.mix) * other, atol=1e-4)
    assert torch.equal(batch.partner_labels, pictures.labels[batch.partner])


def test_cutmix_pastes_one_box_and_mix_is_the_share_that_is_left():
    pictures = _noise()
    batches = Batches(pictures, 8, 0, ("cutmix",), CPU)
    for step in range(1, 9):
        batch = batches(step)
        own, other = pictures.batch(batch.index)[0], pictures.batch(batch.partner)[0]
        kept, pasted = ((batch.inputs - source).abs().amax(1) < 1e-5 for source in (own, other))
        assert (kept | pasted).all()
        for row, partner, mask in zip(batch.index, batch.partner, kept):
            if row != partner:
                assert mask.float().mean().item() == pytest.approx(batch.mix, abs=1e-6)
                ys, xs = torch.where(~mask)
                if len(ys):
                    assert len(ys) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)


def test_asked_for_both_kinds_of_mixing_each_gets_its_turn():
    pictures, batches, boxes = _noise(), Batches(_noise(), 12, 0, ("mixup", "cutmix"), CPU), 0
    for step in range(1, 31):
        batch = batches(step)
        own = pictures.batch(batch.index)[0]
        boxes += bool((batch.inputs - own).abs().amax(1).lt(1e-5).flatten(1).any(1).all())
    assert 5 < boxes < 25


@pytest.mark.parametrize("augment", [(), ("flip", "crop"), ("crop", "mixup"), ("flip", "cutmix")])
def test_slices_of_two_processes_make_up_the_batch_of_one(augment):
    whole = Batches(_noise(), 8, 0, augment, CPU)(5)
    halves = [Batches(_noise(), 8, 0, augment, CPU, rank, 2)(5) for rank in range(2)]
    assert torch.equal(torch.cat([half.inputs for half in halves]), whole.inputs)
    assert torch.equal(torch.cat([half.index for half in halves]), whole.index)
    if whole.partner is not None:
        assert torch.equal(torch.cat([half.partner_labels for half in halves]), whole.partner_labels)


def test_mixed_loss_is_cross_entropy_with_soft_labels():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]), torch.arange(2), torch.tensor([1, 0]),
                  torch.tensor([2, 0]), 0.7)
    soft = torch.tensor([[0.7, 0.0, 0.3], [0.3, 0.0, 0.7]])
    assert label_loss(logits, batch).item() == pytest.approx(F.cross_entropy(logits, soft).item(), abs=1e-6)
    assert label_loss(logits, batch, 0.1).item() == pytest.approx(
        F.cross_entropy(logits, soft, label_smoothing=0.1).item(), abs=1e-6)
    assert share_right(logits, batch).item() == pytest.approx(0.35)      # first picture: neither label; second: 0.7
    assert share_right(logits, dataclasses.replace(batch, partner_labels=None)).item() == 0.5
