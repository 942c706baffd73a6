import json
from pathlib import Path

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import relevance
from lightvit_lab.explain.layerwise import attention_relevance
from lightvit_lab.explain.relevance import attention_gradients, propagate
from lightvit_lab.models.vision_transformer import VisionTransformer

REFERENCE = json.loads((Path(__file__).parent / "explain_reference.json").read_text())["relevance"]


@pytest.fixture(scope="module")
def reference_model() -> VisionTransformer:
    model = fill(VisionTransformer(image_size=32, patch_size=8, dim=48, depth=4, num_heads=3, embedding="patch"))
    model.norm.eps = 1e-5
    return model


def test_attention_and_its_gradient_are_those_of_the_authors_code(reference_model):
    weights, gradients, classes = attention_gradients(reference_model, pictures(5, 1, 3, 32, 32))
    assert classes.item() == torch.tensor(REFERENCE["logits"]).argmax()
    for block in range(4):
        for found, expected in ((weights, "attention_of_class_token"), (gradients, "gradient_of_class_token")):
            assert torch.allclose(found[block][0, :, 0].flatten(), torch.tensor(REFERENCE[expected][block]), atol=1e-5)


def test_layerwise_relevance_is_that_of_the_authors_code_and_so_is_what_it_comes_to(reference_model):
    picture = pictures(5, 1, 3, 32, 32)
    of_weights = attention_relevance(reference_model, picture, reference_model(picture).argmax(1))
    for block in range(4):
        expected = torch.tensor(REFERENCE["relevance_of_class_token"][block])
        assert torch.allclose(of_weights[block][0, :, 0].flatten(), expected, atol=2e-6, rtol=2e-3)
    found = relevance(reference_model, picture, rule="layerwise")[0, 0, 1:]
    assert torch.allclose(found, torch.tensor(REFERENCE["layerwise"]), rtol=1e-3)


def test_gradients_through_fused_attention_are_those_of_written_attention():
    model, inputs = fill(models.create_model("lab_vit_student")), pictures(0, 2, 3, 32, 32)
    attention, kept = model.blocks[1].attn, {}

    def written(tokens):
        query, key, value = attention.split_heads(tokens)
        kept["weights"] = (query @ key.transpose(-2, -1) * attention.scale).softmax(-1)
        kept["weights"].retain_grad()
        return attention.proj((kept["weights"] @ value).transpose(1, 2).flatten(2))

    _, gradients, _ = attention_gradients(model, inputs, [3, 7])
    attention.forward = written
    logits = model(inputs)
    (logits[0, 3] + logits[1, 7]).backward()
    assert torch.allclose(gradients[1], kept["weights"].grad, atol=1e-5)


def test_one_block_by_hand():
    weights, gradient = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]]), torch.tensor([[[[2.0, -2.0], [3.0, 1.0]]]])
    # I + (A * G)+ = [[1 + 1, 0], [3, 1]], and twice: A+ R = [[1, 0], [3, 0]] @ [[2, 0], [3, 1]] = [[2, 0], [6, 0]]
    assert torch.equal(propagate([weights], [gradient])[0], torch.tensor([[2.0, 0.0], [3.0, 1.0]]))
    assert torch.equal(propagate([weights] * 2, [gradient] * 2)[0], torch.tensor([[4.0, 0.0], [9.0, 1.0]]))


@pytest.mark.parametrize("rule", ["attention", "layerwise"])
def test_pictures_of_a_batch_and_their_targets_do_not_touch_each_other(reference_model, rule):
    inputs = pictures(1, 3, 3, 32, 32)
    together = relevance(reference_model, inputs, [1, 2, 3], rule)
    alone = torch.cat([relevance(reference_model, inputs[i:i + 1], i + 1, rule) for i in range(3)])
    bears = alone - torch.eye(17)      # shares of sums near zero make the layer-wise rule inexact in float32
    assert ((together - alone).flatten(1).norm(dim=1) < 1e-2 * bears.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("rule", ["attention", "layerwise"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_is_left_as_it_was_in_every_mode_of_torch_and_with_frozen_weights(context, rule):
    model = fill(models.create_model("lab_vit_student")).requires_grad_(False).train()
    with context():
        found = relevance(model, pictures(0, 1, 3, 32, 32), 0, rule)
    assert found.abs().sum() > 0 and not found.requires_grad and model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_timm_s_vit_has_relevance_too_and_its_own_attention_stays_fused():
    model, inputs = fill(models.create_model("deit_tiny_patch16_224", depth=2)), pictures(0, 1, 3, 224, 224)
    found = relevance(model, inputs, 5)
    model.blocks[0].attn.fused_attn = model.blocks[1].attn.fused_attn = False
    assert found.shape == (1, 197, 197) and torch.allclose(found, relevance(model, inputs, 5), atol=1e-4)


@pytest.mark.parametrize("target, message", [
    (10, "target 10 is out of range; the model has 10 classes, 0 to 9"), ([0, -1], "target -1 is out of range"),
    ([1], "one for each of the 2 pictures"), (0.5, "give a class number"), ([[1], [2]], "one for each of the 2 pictures"),
])
def test_targets_that_the_model_lacks_are_refused(target, message):
    with pytest.raises(LabError, match=message):
        relevance(models.create_model("lab_vit_student"), torch.randn(2, 3, 32, 32), target)


def test_models_without_one_square_of_weights_are_refused_and_keep_no_hook():
    model = models.create_model("lab_lightvit")
    with pytest.raises(LabError, match="more than one square of weights"):
        relevance(model, torch.randn(1, 3, 32, 32))
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(LabError, match="no attention that can be read"):
        relevance(nn.Linear(2, 2), torch.randn(1, 2))
    with pytest.raises(LabError, match="Give one of: attention, layerwise"):
        relevance(models.create_model("lab_vit_student"), torch.randn(1, 3, 32, 32), rule="lrp")
    with pytest.raises(LabError, match='give rule="attention"'):
        relevance(models.create_model("lab_cct"), torch.randn(1, 3, 32, 32), rule="layerwise")
