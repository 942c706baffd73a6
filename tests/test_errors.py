import pytest
import torch

from lightvit_lab.errors import LabError, require_choice, require_grid, require_images, require_multiple, require_range


def test_unknown_choice_suggests_the_closest_and_lists_all():
    with pytest.raises(LabError, match=r'data.load: name=\'digit\' is unknown. Did you mean "digits"\? Give one of: digits, flowers'):
        require_choice("data.load", "name", "digit", ["digits", "flowers"])


def test_unknown_choice_far_from_all_suggests_none():
    with pytest.raises(LabError) as caught:
        require_choice("f", "name", "zzz", ["digits"])
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("value", [-1, 11, "3", None, True, float("nan")])
def test_values_out_of_range_or_of_another_kind_are_refused(value):
    with pytest.raises(LabError, match="give a number with 0 <= r <= 10"):
        require_range("f", "r", value, 0, 10)


def test_range_includes_both_ends():
    require_range("f", "r", 0, 0, 10)
    require_range("f", "r", 10, 0, 10)


@pytest.mark.parametrize("value, near", [(30, "28 or 32"), (3, "give 4"), (33, "32 or 36")])
def test_no_multiple_names_the_nearest_that_are(value, near):
    with pytest.raises(LabError, match=near):
        require_multiple("f", "image_size", value, 4, "patches are 4 x 4")


@pytest.mark.parametrize("images, words", [
    ([[1, 2]], "expected a torch tensor"),
    (torch.zeros(3, 32, 32), r"images\[None\]"),
    (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"images.float\(\) / 255"),
    (torch.zeros(1, 1, 32, 32), "expand"),
    (torch.zeros(1, 32, 32, 3), r"permute\(0, 3, 1, 2\)"),
    (torch.zeros(1, 3, 28, 28), "image_size=28"),
])
def test_wrong_images_are_refused_with_the_call_that_mends_them(images, words):
    with pytest.raises(LabError, match=words):
        require_images("f", images, channels=3, size=32)


def test_right_images_pass():
    require_images("f", torch.zeros(2, 3, 32, 32), channels=3, size=32)


def test_a_grid_is_a_square_unless_given_and_must_be_what_the_tokens_form():
    assert require_grid("f", 65, 1) == (8, 8) and require_grid("f", 8, 2, (2, 3)) == (2, 3)
    for tokens, prefix, grid, words in ((6, 1, None, "no square"), (7, 1, (2, 2), "no grid of 2 x 2"),
                                        (4, 4, None, "prefix=4"), (4, 0, (0, 4), "1 <= grid's rows")):
        with pytest.raises(LabError, match=words):
            require_grid("f", tokens, prefix, grid)
