import math

import pytest
import torch

from lightvit_lab.errors import LabError
from lightvit_lab.explain import attention_distance


def test_a_head_that_looks_at_its_own_patch_has_distance_zero():
    assert attention_distance([torch.eye(10).expand(2, 3, 10, 10)]).tolist() == [[0, 0, 0]]


def test_even_attention_on_two_by_two_patches_has_the_mean_distance_of_their_centres():
    found = attention_distance([torch.full((1, 1, 4, 4), 0.25)], prefix=0)
    assert found.item() == pytest.approx((0 + 1 + 1 + math.sqrt(2)) / 4)


def test_what_goes_to_the_class_token_and_what_it_looks_at_do_not_count():
    weights = torch.zeros(1, 1, 5, 5)
    weights[0, 0, 0, 4] = 1                                   # the class token looks far: no patch
    weights[0, 0, 1:, 0] = 0.75                               # patches look mostly at the class token,
    weights[0, 0, [1, 2, 3, 4], [2, 1, 4, 3]] = 0.25          # and then at their neighbour in the row
    assert attention_distance([weights]).item() == pytest.approx(1)


def test_a_wide_grid_is_read_row_by_row():
    weights = torch.zeros(1, 1, 6, 6)
    weights[..., 5] = 1                                       # all look at row 1, column 2 of 2 x 3
    apart = [math.hypot(1, 2), math.hypot(1, 1), 1, 2, 1, 0]
    assert attention_distance([weights], prefix=0, grid=(2, 3)).item() == pytest.approx(sum(apart) / 6)


def test_blocks_and_heads_keep_their_places_and_pictures_are_averaged():
    near, far = torch.eye(4), torch.eye(4).flip(0)            # far: 0 with 3 and 1 with 2, on the diagonals
    block = torch.stack([torch.stack([near, far]), torch.stack([far, far])])       # 2 pictures, 2 heads
    found = attention_distance([block, block.flip(1)], prefix=0)
    mixed, diagonal = math.sqrt(0.5), math.sqrt(2)
    assert found.tolist() == [pytest.approx([mixed, diagonal]), pytest.approx([diagonal, mixed])]


def test_a_patch_that_looks_at_the_class_token_alone_adds_nothing_and_makes_no_nan():
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 0] = 1
    assert attention_distance([weights]).item() == 0


@pytest.mark.parametrize("maps, settings, expected", [
    ([], {}, "give the list that record_attention filled"),
    ([torch.ones(1, 2, 9, 9)], {"prefix": 1}, "9 tokens, 1 of them in front, form no square"),
    ([torch.ones(1, 2, 9, 9)], {"grid": (2, 3)}, "no grid of 2 x 3"),
    ([torch.ones(1, 2, 9, 9)], {"prefix": 9}, "prefix=9"),
    ([torch.ones(1, 2, 5, 5), torch.ones(1, 3, 5, 5)], {}, "2, 3 heads")])
def test_maps_and_grids_that_do_not_fit_are_refused(maps, settings, expected):
    with pytest.raises(LabError, match=expected):
        attention_distance(maps, **settings)
