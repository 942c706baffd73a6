import pytest
import torch
import torch.nn.functional as F

from lightvit_lab import data
from lightvit_lab.errors import LabError
from lightvit_lab.explain import at_resolution, best_iou, energy_in_mask, pointing_game

MEASURES = (pointing_game, energy_in_mask, lambda maps, masks: best_iou(maps, masks)[0])


def left_half(batch: int = 1, size: int = 4) -> torch.Tensor:
    masks = torch.zeros(batch, size, size, dtype=torch.bool)
    masks[:, :, : size // 2] = True
    return masks


def test_every_pixel_takes_the_value_of_its_cell_and_no_value_is_invented():
    maps = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    found = at_resolution(maps, 4, 9)
    assert torch.equal(found, maps.repeat_interleave(2, dim=1).repeat_interleave(3, dim=2))


def test_pixels_of_a_grid_that_does_not_divide_take_the_cell_their_centre_is_in():
    found = at_resolution(torch.tensor([[[1.0, 2.0, 3.0]]]), 1, 4)     # centres at 0.375, 1.125, 1.875, 2.625 cells
    assert found.tolist() == [[[1.0, 2.0, 2.0, 3.0]]]


def test_finer_maps_are_averaged_also_along_one_side_only():
    maps = torch.tensor([[[1.0, 3.0], [5.0, 7.0], [0.0, 0.0], [4.0, 8.0]]])
    assert at_resolution(maps, 2, 2).tolist() == [[[3.0, 5.0], [2.0, 4.0]]]
    assert at_resolution(maps, 2, 4).tolist() == [[[3.0, 3.0, 5.0, 5.0], [2.0, 2.0, 4.0, 4.0]]]


def test_bilinear_interpolation_would_carry_weight_out_of_the_object():
    cell, mask = torch.zeros(1, 4, 4), torch.zeros(1, 16, 16, dtype=torch.bool)
    cell[0, 1, 1], mask[0, 4:8, 4:8] = 1.0, True
    smooth = F.interpolate(cell[None], (16, 16), mode="bilinear")[0]
    assert energy_in_mask(cell, mask).item() == 1.0
    assert energy_in_mask(smooth, mask).item() < 0.7


def test_pointing_shares_ties_and_reads_the_highest_pixel_else():
    maps = torch.tensor([[[0.0, 9.0], [1.0, 2.0]], [[9.0, 0.0], [1.0, 2.0]], [[9.0, 9.0], [9.0, 0.0]]])
    found = pointing_game(maps, left_half(3))
    assert torch.allclose(found, torch.tensor([0.0, 1.0, 2 / 3]))


def test_a_cell_half_within_the_mask_points_half():
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, 0] = mask[0, 0, 1] = 1
    assert pointing_game(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), mask.byte()).item() == 0.5


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_constant_maps_score_the_area_of_the_mask(value):
    masks = data.load("shapes", "test", count=5).masks
    area, maps = masks.float().mean(dim=(1, 2)), torch.full((5, 7, 3), value)
    for measure in MEASURES:
        assert torch.allclose(measure(maps, masks), area)


def test_energy_is_the_share_of_positive_mass():
    maps = torch.tensor([[[3.0, 1.0], [-50.0, 4.0]]])
    assert energy_in_mask(maps, left_half()).item() == pytest.approx(3 / 8)


def test_iou_scales_each_map_and_takes_one_threshold_for_all():
    first = torch.tensor([[10.0, 4.0, 0.0, 0.0]] * 4)                 # scaled 1, 0.4, 0, 0: the mask is {>= 0.4}
    second = torch.tensor([[0.8, 0.9, 0.5, 0.4]] * 4) - 0.4           # scaled 0.8, 1, 0.2, 0: the mask is {>= 0.8}
    ious, threshold = best_iou(torch.stack([first, second]), left_half(2))
    assert ious.tolist() == [1.0, 1.0] and 0.2 < threshold <= 0.4


def test_of_thresholds_that_tie_the_lowest_is_returned():
    """A map of 0 and 1: at 0.01, 0.02, ... 0.99 the same pixels are found, and the overlap is 1 at each."""
    assert best_iou(left_half().float(), left_half()) == (torch.tensor([1.0]), 0.01)
    ious, threshold = best_iou(torch.full((1, 4, 4), 0.3), left_half())       # constant: only threshold 0 finds anything
    assert (ious.item(), threshold) == (0.5, 0.0)


def test_iou_is_not_chosen_for_each_picture():
    low = torch.tensor([[1.0, 0.3, 0.0, 0.0]] * 4)                     # wants a threshold of at most 0.3
    high = torch.tensor([[1.0, 0.9, 0.8, 0.0]] * 4)                    # wants more than 0.8
    ious, threshold = best_iou(torch.stack([low, high]), left_half(2))
    assert sorted(round(value, 3) for value in ious.tolist()) == [0.667, 1.0]      # each its own: 1 and 1
    assert 0 < threshold <= 0.3


def test_the_best_map_of_all_is_the_mask_itself():
    masks = data.load("shapes", "test", count=6).masks
    for measure in MEASURES:
        assert torch.allclose(measure(masks.float(), masks), torch.ones(6))


def with_nan() -> torch.Tensor:
    maps = torch.ones(2, 4, 4)
    maps[1, 2, 2] = float("nan")
    return maps


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("maps, masks, words", [
    (torch.ones(3, 4, 4), left_half(2), r"masks have shape \(2, 4, 4\); give \(3, height, width\)"),
    (torch.ones(2, 4, 4), None, r'no masks.*data.load\("shapes", "test"\).masks'),
    (torch.ones(2, 4, 4), torch.stack([left_half()[0], 0 * left_half()[0]]), "the mask of picture 1 is empty"),
    (with_nan(), left_half(2), "map 1 holds values that are not finite"),
    (torch.ones(2, 1, 4, 4), left_half(2), "give floats"),
    (torch.ones(2, 4, 4).long(), left_half(2), "torch.int64"),
    ([[1.0]], left_half(1), "maps are list"),
    (torch.ones(2, 4, 4), torch.ones(2, 1, 4, 4), "masks have shape"),
])
def test_maps_and_masks_that_do_not_fit_are_refused(measure, maps, masks, words):
    with pytest.raises(LabError, match=words):
        measure(maps, masks)
