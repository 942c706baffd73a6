import lightvit_for_inference
import pytest
import torch
from lightvit_for_inference import for_inference
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError


@pytest.fixture
def model():
    """lab_lightvit with batch norm as after training, biases that are not zero, and logits of about one."""
    torch.manual_seed(0)
    model = models.create_model("lab_lightvit").eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("bias", "running_mean")):
                value.normal_(std=0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        model.head.weight.normal_(std=0.1)
    return model


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 32, 32), (2, 3, 41, 36)])
@torch.inference_mode()
def test_ready_model_gives_the_same_logits(model, monkeypatch, shape, packs):
    if not packs:
        monkeypatch.setattr(lightvit_for_inference, "can_pack", lambda weight: False)
    images = torch.randn(shape)
    assert torch.allclose(for_inference(model)(images), model(images), atol=1e-5)


def test_batch_norm_is_gone_and_the_model_given_is_untouched(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    ready = for_inference(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert not ready.training and not any(value.requires_grad for value in ready.parameters())
    assert model.training and all(value.requires_grad for value in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@torch.inference_mode()
def test_other_types_run_by_plain_layers(model):
    images = torch.randn(2, 3, 32, 32)
    half = for_inference(model.bfloat16())(images.bfloat16())
    assert half.dtype == torch.bfloat16 and (half - model(images.bfloat16())).abs().max() < 0.1


def test_other_models_are_refused():
    with pytest.raises(LabError, match="ResidualNetwork is no LightViT.*lightvit_tiny"):
        for_inference(models.create_model("lab_cnn"))


def test_weights_that_two_layers_share_are_refused(model):
    model.stages[0][0].attn.proj.weight = model.stages[0][1].attn.proj.weight
    with pytest.raises(LabError, match="for_inference: .* is the same weight"):
        for_inference(model)
