import pytest
import torch
from scipy import ndimage

from lightvit_lab.errors import LabError
from lightvit_lab.explain import centre_map, edge_map, random_map


def test_edges_are_scipy_s_sobel_of_the_grey_picture_under_a_box():
    pictures = torch.randn(2, 3, 12, 17)
    for picture, found in zip(pictures, edge_map(None, pictures)):
        grey = picture.mean(dim=0).double().numpy()
        across, down = (ndimage.sobel(grey, axis=axis, mode="nearest") / 8 for axis in (1, 0))
        steep = ndimage.uniform_filter((across**2 + down**2) ** 0.5, 3, mode="nearest")
        assert torch.allclose(found, torch.from_numpy(steep).float(), atol=1e-5)


def test_a_step_of_one_has_a_slope_that_does_not_hang_on_the_colour():
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1.0
    assert edge_map(None, picture)[0, 4].tolist() == pytest.approx([0, 0, 0.5 / 3, 1 / 3, 1 / 3, 0.5 / 3, 0, 0])


def test_the_centre_is_the_highest_and_the_hill_is_even_on_all_sides():
    maps = centre_map(None, torch.zeros(2, 3, 9, 15))
    assert maps.shape == (2, 9, 15) and maps[1].argmax() == 4 * 15 + 7 and maps[0, 4, 7] == 1
    assert torch.allclose(maps, maps.flip(1), atol=1e-6) and torch.allclose(maps, maps.flip(2), atol=1e-6)


def test_random_maps_follow_from_seed_and_picture_whatever_the_batch():
    pictures, explain = torch.randn(3, 3, 8, 12), random_map(seed=1)
    maps = explain(None, pictures)
    assert maps.shape == (3, 2, 3) and not torch.equal(maps[0], maps[1])
    assert torch.equal(explain(None, pictures[2:], 5)[0], maps[2])
    assert not torch.equal(random_map(seed=2)(None, pictures), maps)


@pytest.mark.parametrize("explain", [random_map(), centre_map, edge_map])
def test_one_picture_without_its_batch_is_refused(explain):
    with pytest.raises(LabError, match=r"images\[None\]"):
        explain(None, torch.zeros(3, 8, 8))
