"""Explaining on a second device: models come home, maps lie where the pictures were, float64 is asked of none."""

import pytest
import torch
from given_back import faults

from lightvit_lab import data, explain, models
from lightvit_lab.widgets import attention_explorer, attention_views

CALLS = {
    "relevance": lambda model, x: explain.relevance_map(model, x, 3),
    "layerwise": lambda model, x: explain.relevance_map(model, x, 3, "layerwise"),
    "rollout": lambda model, x: explain.rollout_map(model, x),
    "class attention": lambda model, x: explain.class_attention(model, x),
    "integrated gradients": lambda model, x: explain.integrated_gradients(model, x, 3, 4),
    "deep lift": lambda model, x: explain.deep_lift(model, x, 3),
    "grad-cam": lambda model, x: explain.grad_cam(model, x, 3),
    "occlusion": lambda model, x: explain.occlusion(model, x, 3, 8),
    "kernel shap": lambda model, x: explain.kernel_shap(model, x, 3, 8, 20),
    "gap": lambda model, x: explain.completeness_gap(model, x, torch.ones(2, 4, 4), 3),
    "insertion": lambda model, x: explain.insertion_deletion(
        model, x, torch.arange(32.0).view(2, 4, 4), 3, 4).insertion,
    "edges": lambda model, x: explain.edge_map(model, x),
    "random": lambda model, x: explain.random_map()(model, x),
}


def made():
    torch.manual_seed(0)
    return models.create_model("lab_vit", dim=32, depth=2, patch_size=8), torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize("float64", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_a_map_is_the_processor_s_wherever_the_model_and_the_pictures_lie(lab, monkeypatch, name, float64):
    from lightvit_lab.runtime import running

    model, inputs = made()
    monkeypatch.setenv("LIGHTVIT_DEVICE", "cpu")
    expected = CALLS[name](model, inputs)
    monkeypatch.setenv("LIGHTVIT_DEVICE", "lab")
    if not float64:                                      # as on Apple's mps
        lab.refuse_float64(True)
        monkeypatch.setattr(running, "WITHOUT_FLOAT64", {"mps", "lab"})
    found = CALLS[name](model, inputs)
    assert found.device.type == "cpu" and torch.allclose(found, expected, atol=1e-4, rtol=1e-3)
    assert not faults({"model": model, "inputs": inputs})
    there = CALLS[name](model, inputs.to("lab"))
    assert there.device.type == "lab" and torch.allclose(there.cpu(), expected, atol=1e-4, rtol=1e-3)
    assert not faults({"model": model})
    model(inputs).sum().backward()


@pytest.mark.parametrize("float64", [True, False])
def test_scores_checks_and_boxes_run_on_the_device_and_leave_nothing_there(lab, monkeypatch, float64):
    from lightvit_lab.runtime import running

    if not float64:
        lab.refuse_float64(True)
        monkeypatch.setattr(running, "WITHOUT_FLOAT64", {"mps", "lab"})
    model, pictures = made()[0], data.load("shapes", "test", count=3)
    found = explain.localize(model, pictures, {"relevance": explain.relevance_map}, steps=2)
    checked = explain.sanity_check(explain.relevance_map, model, pictures.inputs)
    box, views = attention_explorer(model, pictures), attention_views(model, pictures)
    box.method.value, views.view.value = "relevance", "rollout by depth"
    assert not box.message.value and not views.message.value
    assert not faults({"model": model, "pictures": pictures, "found": found, "checked": checked})
    assert not faults({"album": box.album, "maps": views._maps})
    with explain.record_attention(model) as maps:        # moves nothing: the caller runs the model
        model(pictures.inputs)
    assert maps[0].device.type == "cpu"
