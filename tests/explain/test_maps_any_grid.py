"""Maps of pictures of 3 x 5 patches: a picture turned has the map turned, height first."""

import pytest
import torch
from any_grid import inputs_of, made, relaid, resized, turned

from lightvit_lab import explain
from lightvit_lab.errors import LabError

BY_PATCH = {
    "class attention": explain.class_attention, "rollout": explain.rollout_map, "relevance": explain.relevance_map,
    "Grad-CAM": explain.grad_cam, "occlusion": lambda *asked: explain.occlusion(*asked, progress=False),
}
BY_PIXEL = {
    "integrated gradients": lambda *asked: explain.integrated_gradients(*asked, steps=4, progress=False),
    "DeepLift": explain.deep_lift, "centre": explain.centre_map, "edges": explain.edge_map,
}
KINDS = ["patches", "distilled", "timm", "timm, any size", "timm, registers", "cct_2_3x2"]


@pytest.mark.parametrize("kind, name", [
    (kind, name) for kind in KINDS for name in (*BY_PATCH, *BY_PIXEL)
    if (kind, name) != ("cct_2_3x2", "DeepLift")])       # captum's rule for max-pooling that overlaps minds the order
def test_a_picture_turned_has_the_map_turned(kind, name):
    images, explainer = inputs_of(kind), (BY_PATCH | BY_PIXEL)[name]
    found = explainer(made(kind), images, 3)
    assert found.shape == (len(images), *((3, 5) if name in BY_PATCH else (12, 20))) and found.std() > 0
    scale = found.abs().max().item()
    torch.testing.assert_close(explainer(turned(kind), images.mT, 3), found.mT, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", ["patches", "distilled"])
def test_layerwise_relevance_of_a_picture_turned_is_the_map_turned(kind):
    found = explain.relevance_map(made(kind), inputs_of(), 3, rule="layerwise")
    there = explain.relevance_map(turned(kind), inputs_of().mT, 3, rule="layerwise")
    assert found.shape == (2, 3, 5)
    torch.testing.assert_close(there, found.mT, rtol=0.05, atol=0.05 * found.abs().max().item())


def test_shapley_values_and_random_maps_lie_on_the_grid_in_reading_order():
    images, whole = inputs_of(), made()
    found = explain.kernel_shap(whole, images, 3, samples=200, progress=False)
    thin = explain.kernel_shap(resized("patches", (60, 4)), relaid(images, 15, 1), 3, samples=200, progress=False)
    assert found.shape == (2, 3, 5) and thin.shape == (2, 15, 1)
    torch.testing.assert_close(found.flatten(1), thin.flatten(1), rtol=1e-3, atol=1e-4)
    assert explain.random_map()(whole, images).shape == (2, 3, 5)


def test_grad_cam_of_a_cnn_and_of_the_last_norm_of_lightvit_turn_with_the_picture():
    for kind, layer, grid in (("lab_cnn", lambda model: model.stages[-1], (6, 10)),
                              ("lab_lightvit", lambda model: model.norm, (2, 3))):
        model, other = made(kind), turned(kind)
        found = explain.grad_cam(model, inputs_of(kind), 3, layer(model))
        there = explain.grad_cam(other, inputs_of(kind).mT, 3, layer(other))
        assert found.shape == (2, *grid)
        torch.testing.assert_close(there, found.mT, rtol=1e-3, atol=1e-5)


def test_distance_of_attention_is_measured_on_the_grid():
    """Five tokens on is one row down on 3 x 5 patches; on 5 x 3 a row and two columns away, or two rows and a column."""
    weights = torch.zeros(1, 1, 15, 15)
    weights[..., range(10), range(5, 15)] = 1
    weights[..., range(10, 15), range(10, 15)] = 1         # the last row looks at itself
    assert explain.attention_distance([weights], prefix=0, grid=(3, 5)).item() == pytest.approx(10 / 15)
    upright = explain.attention_distance([weights], prefix=0, grid=(5, 3)).item()
    assert upright == pytest.approx(10 * 5**0.5 / 15, rel=1e-5)
    with pytest.raises(LabError, match=r"15 tokens, 0 of them in front, form no square; give grid=\(rows, columns\)"):
        explain.attention_distance([weights], prefix=0)


def test_curves_and_scores_of_a_picture_turned_are_the_same():
    images, masks = inputs_of(), torch.zeros(2, 12, 20, dtype=torch.bool)
    masks[:, 2:9, 12:] = True
    maps = explain.integrated_gradients(made(), images, 3, steps=2, progress=False)       # no two pixels alike
    model, other = made(), turned("patches")
    one, two = explain.insertion_deletion(model, images, maps, 3), explain.insertion_deletion(other, images.mT, maps.mT, 3)
    torch.testing.assert_close(one.insertion, two.insertion, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.deletion, two.deletion, rtol=1e-4, atol=1e-5)
    for measure in (explain.pointing_game, explain.energy_in_mask):
        for some in (maps, maps[:, ::4, ::4]):
            torch.testing.assert_close(measure(some, masks), measure(some.mT, masks.mT))
    assert explain.best_iou(maps, masks)[1] == pytest.approx(explain.best_iou(maps.mT, masks.mT)[1])


def test_localize_and_the_sanity_check_take_oblong_pictures():
    images, masks = inputs_of(), torch.zeros(2, 12, 20, dtype=torch.bool)
    masks[:, 4:8, 16:] = True                              # the patch in row 1 and column 4

    def there(model, inputs, target):
        return torch.zeros(len(inputs), 3, 5).index_put((torch.arange(len(inputs)), torch.tensor(1), torch.tensor(4)),
                                                        torch.tensor(1.0))

    explainers = {"there": there, "relevance": explain.relevance_map}
    found = explain.localize(made(), (images, masks), explainers, target=3, steps=4, progress=False)
    assert all(found.scores["there"][name][0] == 1 for name in ("pointing", "energy", "iou"))
    assert explain.sanity_check(explain.class_attention, made(), images).correlations["everything"] < 1
    assert explain.sanity_check(explain.edge_map, made(), images).unchanged
