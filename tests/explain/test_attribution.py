import pytest
import torch
from torch import nn

from lightvit_lab import data, models
from lightvit_lab.errors import LabError
from lightvit_lab.explain import attribution

METHODS = ("integrated_gradients", "deep_lift", "grad_cam", "occlusion", "kernel_shap")


def linear_model() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear model of 8 x 12 pictures, two of them, their targets, and weight * input of each pixel (2, 8, 12)."""
    torch.manual_seed(0)
    model, pictures, target = nn.Sequential(nn.Flatten(), nn.Linear(3 * 96, 4)), torch.randn(2, 3, 8, 12), [3, 1]
    shares = (model[1].weight.detach().view(4, 3, 8, 12)[target] * pictures).sum(dim=1)
    return model, pictures, torch.tensor(target), shares


def student(scale: float = 3.0) -> nn.Module:
    """A student whose weights are large, so that its GELUs, norms and softmax bend as those of a trained one do."""
    torch.manual_seed(1)
    model = models.create_model("lab_vit_student").eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1:
                weights.mul_(scale if "blocks" in name else 8.0 if "proj.6" in name else 1.0)
    return model


def shapes(count: int) -> torch.Tensor:
    return data.load("shapes", "test", count=count).inputs


def sums_of_patches(pixels: torch.Tensor, size: int) -> torch.Tensor:
    return pixels.unfold(1, size, size).unfold(2, size, size).sum(dim=(-1, -2))


def test_integrated_gradients_of_a_linear_model_are_weight_times_input():
    model, pictures, target, shares = linear_model()
    for steps in (1, 7, 100):
        found = attribution.integrated_gradients(model, pictures, target, steps=steps)
        assert torch.allclose(found, shares, atol=1e-6)


def test_deep_lift_of_a_linear_model_is_weight_times_input():
    model, pictures, target, shares = linear_model()
    assert torch.allclose(attribution.deep_lift(model, pictures, target), shares, atol=1e-6)


def test_occlusion_of_a_linear_model_is_the_sum_over_the_covered_patch():
    model, pictures, target, shares = linear_model()
    found = attribution.occlusion(model, pictures, target, patch_size=4)
    assert found.shape == (2, 2, 3) and torch.allclose(found, sums_of_patches(shares, 4), atol=1e-5)


@pytest.mark.parametrize("samples", [7, 60])
def test_kernel_shap_of_a_linear_model_is_exact_with_more_samples_than_patches(samples):
    model, pictures, target, shares = linear_model()
    found = attribution.kernel_shap(model, pictures, target, samples=samples, seed=3)
    assert torch.allclose(found, sums_of_patches(shares, 4), atol=1e-4) == (samples == 60)


def test_kernel_shap_finds_the_shapley_values_of_two_patches_that_need_each_other():
    class Both(nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            left, right = pictures[..., :4].mean(dim=(1, 2, 3)), pictures[..., 4:8].mean(dim=(1, 2, 3))
            return torch.stack([left * right, left], dim=1)

    pictures = torch.ones(1, 1, 4, 12) * 2
    found = attribution.kernel_shap(Both(), pictures, 0, samples=2000)
    assert torch.allclose(found, torch.tensor([[[2.0, 2.0, 0.0]]]), atol=0.1)


def test_kernel_shap_repeats_by_seed_alone_whatever_the_batch_and_leaves_the_random_state():
    model, pictures = student(), shapes(3)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = attribution.kernel_shap(model, pictures, 2, 8, samples=40, seed=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(12)
    alone = attribution.kernel_shap(model, pictures[2:], 2, 8, samples=40, seed=5)
    other = attribution.kernel_shap(model, pictures[2:], 2, 8, samples=40, seed=6)
    assert torch.allclose(first[2:], alone, atol=1e-5) and not torch.allclose(alone, other, atol=1e-3)


def test_grad_cam_weighs_channels_by_the_mean_gradient_of_the_image_tokens():
    model, pictures, target = student(), shapes(2), torch.tensor([4, 7])
    tokens = model.embed(pictures)
    for block in model.blocks[:-1]:
        tokens = block(tokens)
    last, seen = model.blocks[-1], model.blocks[-1].norm1(tokens)
    after = tokens + last.attn(seen)
    after = after + last.mlp(last.norm2(after))
    score = model.head(model.norm(after)[:, 0]).gather(1, target[:, None]).sum()
    slope = torch.autograd.grad(score, seen)[0][:, 1:]
    by_hand = (seen[:, 1:] * slope.mean(dim=1, keepdim=True)).sum(dim=-1).clamp_min(0).view(2, 8, 8)
    found = attribution.grad_cam(model, pictures, target)
    assert by_hand.max() > 1e-4 and torch.allclose(found, by_hand.detach(), rtol=1e-4, atol=1e-7)


def test_grad_cam_of_a_cnn_layer_before_the_mean_is_the_head_s_weights_on_its_channels():
    torch.manual_seed(0)
    model, pictures = models.create_model("lab_cnn").eval(), shapes(2)
    maps = model.stages(model.stem(pictures))
    by_hand = torch.einsum("c,bchw->bhw", model.head.weight[6], maps).clamp_min(0) / maps[0, 0].numel()
    found = attribution.grad_cam(model, pictures, 6, layer=model.stages[-1])
    assert torch.allclose(found, by_hand.detach(), rtol=1e-4, atol=1e-7)


def test_grad_cam_reads_models_without_a_class_token_and_timm_s_also_in_inference_mode():
    torch.manual_seed(0)
    compact = models.create_model("lab_cct")
    timms = models.create_model("vit_tiny_patch16_224", img_size=(32, 48), depth=2, num_classes=10)
    with torch.inference_mode():
        assert attribution.grad_cam(compact, shapes(1)).shape == (1, 4, 4)
        assert attribution.grad_cam(timms, torch.randn(2, 3, 32, 48)).shape == (2, 2, 3)


def test_integrated_gradients_are_complete_on_a_vision_transformer_and_deep_lift_is_not():
    model, pictures = student(), shapes(4)
    complete = attribution.integrated_gradients(model, pictures, steps=64)
    caution = attribution.deep_lift(model, pictures)
    gap, wide = (attribution.completeness_gap(model, pictures, maps) for maps in (complete, caution))
    assert gap.max() < 0.05 and wide.median() > 0.2 and (wide > gap).all()


def test_completeness_gap_of_hand_worked_maps():
    model, pictures, target, shares = linear_model()
    half, none = 0.5 * shares, torch.zeros(2, 2, 2)
    gap = attribution.completeness_gap(model, pictures, half, target)
    assert torch.allclose(gap, torch.tensor([0.5, 0.5]), atol=1e-4)
    assert torch.allclose(attribution.completeness_gap(model, pictures, none, target), torch.ones(2))


@pytest.mark.parametrize("method", METHODS)
def test_explaining_leaves_a_frozen_model_in_training_as_it_was_also_under_no_grad(method):
    model, pictures = student().train().requires_grad_(False), shapes(2)
    model.head.weight.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    with torch.no_grad():
        found = getattr(attribution, method)(model, pictures, **({"samples": 70} if method == "kernel_shap" else {}))
    assert found.ndim == 3 and found.isfinite().all() and not found.requires_grad
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weights.grad is None for weights in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                   for module in model.modules())
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}


@pytest.mark.parametrize("method", METHODS)
def test_no_target_is_the_predicted_class(method):
    model, pictures = student(), shapes(2)
    more = {"samples": 70} if method == "kernel_shap" else {}
    predicted = model(pictures).argmax(dim=1)
    explain = getattr(attribution, method)
    assert torch.equal(explain(model, pictures, **more), explain(model, pictures, predicted.tolist(), **more))


@pytest.mark.parametrize("method", METHODS)
def test_targets_out_of_range_are_refused(method):
    with pytest.raises(LabError, match="target 10 is out of range; the model has 10 classes"):
        getattr(attribution, method)(student(), shapes(2), [0, 10])


@pytest.mark.parametrize("call, words", [
    (lambda model, x: attribution.integrated_gradients(model, x, steps=0), "1 <= steps"),
    (lambda model, x: attribution.occlusion(model, x, patch_size=5), "no multiple of 5.*give 30 or 35"),
    (lambda model, x: attribution.kernel_shap(model, x, patch_size=3), "no multiple of 3"),
    (lambda model, x: attribution.kernel_shap(model, x, patch_size=32), "one patch of the whole"),
    (lambda model, x: attribution.kernel_shap(model, x, patch_size=4, samples=64), "65 <= samples"),
    (lambda model, x: attribution.occlusion(model, x[0]), r"images\[None\]"),
    (lambda model, x: attribution.integrated_gradients(model, x[:0]), "at least one"),
    (lambda model, x: attribution.grad_cam(models.create_model("lab_cnn"), x), "ResidualNetwork has no blocks"),
    (lambda model, x: attribution.grad_cam(model, x, layer=nn.Linear(2, 2)), "Linear was not reached"),
    (lambda model, x: attribution.grad_cam(model, x, layer=model.head), r"Linear gives \(1, 10\)"),
    (lambda model, x: attribution.completeness_gap(model, x, torch.zeros(2, 8, 8)), "2 maps for 1 pictures"),
])
def test_bad_input_is_refused_with_what_mends_it(call, words):
    with pytest.raises(LabError, match=words):
        call(student(), shapes(1))
