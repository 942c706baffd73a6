import base64
import io

import numpy
import pytest
import torch
from PIL import Image
from plotly.colors import sample_colorscale

from lightvit_lab.figures import overlay


def opened(uri):
    return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def plotlys(place):
    """Plotly's own Cividis at a place from 0 to 1."""
    (colour,) = sample_colorscale("Cividis", [place], colortype="tuple")
    return 255 * numpy.array(colour)


@pytest.mark.parametrize("value, place", [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_a_map_is_seven_tenths_plotlys_cividis_and_three_tenths_the_grey_picture(value, place):
    image = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 2, 2)          # red: a grey of 0.299 * 255
    painted = overlay.blend(image, torch.tensor([[value, 1.0]]))
    assert painted.shape == (2, 2, 3)
    assert numpy.abs(painted[0, 0] - (0.7 * plotlys(place) + 0.3 * 0.299 * 255)).max() <= 1


def test_values_below_zero_stretch_the_scale_and_a_map_of_zeros_is_dark_all_over():
    assert overlay.limits(torch.tensor([[-2.0, 1.0]])) == (-2.0, 1.0)
    assert overlay.limits(torch.tensor([[0.5, 1.0]])) == (0.0, 1.0)
    painted = overlay.blend(torch.zeros(3, 1, 1), torch.zeros(2, 2))
    assert numpy.abs(painted[0, 0] - 0.7 * plotlys(0)).max() <= 1


def test_picture_and_map_stand_side_by_side_in_whole_pixels_and_the_looking_patch_is_framed_in_both():
    image = torch.zeros(3, 8, 16)
    image[:, :, 8:] = 1
    sheet = opened(overlay.side_by_side(image, torch.ones(2, 4), frame=(4, 0, 8, 4), height=80))
    assert sheet.shape[0] == 80 and sheet.shape[1] > 2 * 160
    frame = [0xD5, 0x5E, 0x00, 255]
    right = sheet.shape[1] - 160
    assert (sheet[0, 40] == frame).all() and (sheet[39, 79] == frame).all() and (sheet[1, right + 41] == frame).all()
    assert (sheet[20, 60] == [0, 0, 0, 255]).all() and (sheet[20, 100] == 255).all()
    assert not (opened(overlay.side_by_side(image, torch.ones(2, 4), height=80)) == frame).all(-1).any()


def test_the_gap_between_picture_and_map_is_transparent_so_that_no_white_bar_stands_in_a_dark_theme():
    sheet = opened(overlay.side_by_side(torch.zeros(3, 8, 8), torch.ones(2, 2), height=80))
    assert (sheet[:, 81:84, 3] == 0).all() and (sheet[:, :80, 3] == 255).all()


def test_what_surrounds_the_patch_is_framed_by_a_thinner_line():
    sheet = opened(overlay.side_by_side(torch.zeros(3, 8, 8), torch.ones(2, 2), frame=(0, 0, 4, 4), height=80,
                                        outer=(0, 0, 8, 8)))
    orange = (sheet[..., :3] == [0xD5, 0x5E, 0x00]).all(-1)
    assert orange[60, :80].sum() == 4 and orange[20, :80].sum() == 3 + 3 + 2       # two lines; the patch's two and one


def test_patches_of_a_grid_are_boxes_of_pixels():
    image = torch.zeros(3, 8, 12)
    assert overlay.box_of((1, 0, 1, 0), (2, 3), image) == (0, 4, 4, 8)              # row 1, column 0
    assert overlay.box_of((0, 1, 1, 2), (2, 3), image) == (4, 0, 12, 8)             # rows 0 to 1, columns 1 to 2


def test_the_colour_bar_says_its_ends_and_escapes_them():
    assert "<span>0</span><span>1</span>" in overlay.scale_bar(["0", "1", "2 < 3"])
    assert "2 &lt; 3" in overlay.scale_bar(["0", "1", "2 < 3"])


def test_a_picture_is_kept_pixel_for_pixel():
    image = torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0)) / 255
    assert (opened(overlay.picture_uri(image)) == (image * 255).round().byte().permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("value, top, expected", [
    (0.12, 0.12, "0.120"), (0.0312, 0.12, "0.031"), (0.5, 0.5, "0.50"), (0, 0.5, "0"), (-0.001, 0.5, "0.00"),
    (3.2, 300, "3"), (0.0, 0.0, "0"), (-0.25, 0.9, "-0.25"), (1.5e-7, 3e-7, "1.5e-7"), (-2e-12, 3e-7, "-2.0e-12")])
def test_numbers_have_no_more_digits_than_255_steps_tell_apart(value, top, expected):
    assert overlay.format_value(value, top) == expected


@pytest.mark.parametrize("value, expected", [(0.0, "0"), (4e-13, "4.0e-13"), (0.04, "0.04"), (0.12, "0.1"),
                                             (7.84, "7.8"), (9.94, "9.9"), (9.96, "10"), (12.3, "12")])
def test_factors_have_one_digit_behind_the_point_until_ten_and_small_ones_are_not_lost(value, expected):
    assert overlay.format_times(value) == expected
