"""Attribution by captum, one call each: (model, inputs, target) -> (batch, rows, columns).

Maps have the type of `inputs` and lie on their device, wherever the model runs.

What a method needs decides what its map is worth. Integrated Gradients and occlusion ask for
gradients or logits alone, and hold for any model; KernelSHAP asks for logits, and is as good as its
samples; Grad-CAM, written here, reads one layer. DeepLift needs a rule for every part of the model,
and captum's has none for GELU, LayerNorm and a softmax inside fused attention: there it takes the
plain gradient without a word. It runs, and its map does not sum to what the logit gained.
`completeness_gap` shows by how much, and `deep_lift` is here for that lesson only. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_images, require_multiple, require_range
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.running import to_device
from ..runtime.wrapped import unwrapped
from .passes import (MOST_AT_ONCE, Target, explaining, logits_of, pass_size, progress_bar,
                     reentrant_error)


@plain_numbers
def integrated_gradients(model: nn.Module, inputs: Tensor, target: Target = None, steps: int = 32,
                         progress: bool = True) -> Tensor:
    """Gradients on the straight line from grey (zeros) to the picture, times the difference.

    Signed, (batch, height, width), summed over channels: a map sums to f(x) - f(0), f the target's
    logit, the better the more `steps`. Positive evidence alone is `.clamp_min(0)`. Sundararajan,
    Taly and Yan, arXiv 1703.01365. Raises LabError on targets out of range and steps < 1.
    """
    require_images("integrated_gradients", inputs)
    require_range("integrated_gradients", "steps", steps, 1)
    maps = _attribute("integrated_gradients", "IntegratedGradients", model, inputs, target, steps,
                      progress, n_steps=steps, internal_batch_size=pass_size(inputs))
    return maps.sum(dim=1).to(inputs)


def deep_lift(model: nn.Module, inputs: Tensor, target: Target = None) -> Tensor:
    """captum's DeepLift, a warning: it does not fit these models; (batch, height, width), signed.

    It has no rule for GELU, LayerNorm and fused softmax, falls back to plain gradients there, and
    is therefore not complete: see `completeness_gap`. Shrikumar, Greenside and Kundaje, arXiv
    1704.02685. Raises LabError on targets out of range.
    """
    return _attribute("deep_lift", "DeepLift", model, inputs, target, 2).sum(dim=1).to(inputs)


def grad_cam(model: nn.Module, inputs: Tensor, target: Target = None,
             layer: nn.Module | None = None) -> Tensor:
    """Grad-CAM on tokens, taken as the feature map of a CNN: (batch, rows, columns), not negative.

    Each channel of `layer`'s output counts by the mean, over the image tokens, of the logit's
    gradient; class tokens are left out of both. `layer` is a module whose output is tokens (batch,
    tokens, dim) or a feature map (batch, channels, rows, columns); None: the first norm of the last
    block. Selvaraju et al., arXiv 1610.02391. Raises LabError for models without tokens, layers
    that give neither, and targets out of range.
    """
    layer = _last_norm(unwrapped(model)) if layer is None else layer
    outputs, maps = [], []

    def record(_: nn.Module, __: tuple, ___: dict, output: Any) -> None:
        outputs.append(output)

    with (explaining("grad_cam", model, inputs, target) as (model, pictures, classes),
          hooked([Hook(layer, "output", record)])):
        size = pass_size(pictures)
        for part, part_classes in zip(pictures.split(size), classes.split(size)):
            logits = model(part.requires_grad_())
            output = _require_feature_map(model, layer, outputs)
            slopes = torch.autograd.grad(logits.gather(1, part_classes[:, None]).sum(), output)[0]
            channels, slopes = (_as_image(model, part, values) for values in (output, slopes))
            weights = slopes.mean(dim=(2, 3), keepdim=True)
            maps.append((weights * channels).sum(dim=1).clamp_min(0).detach())
            outputs.clear()
    return torch.cat(maps).to(inputs)


@plain_numbers
def occlusion(model: nn.Module, inputs: Tensor, target: Target = None, patch_size: int = 4,
              progress: bool = True) -> Tensor:
    """By how much the target's logit falls when a patch is covered with grey (zeros).

    One value a patch, signed: (batch, height / patch_size, width / patch_size). Zeiler and Fergus,
    arXiv 1311.2901. Raises LabError on patches that do not divide the picture and on targets out of
    range.
    """
    _require_patches("occlusion", inputs, patch_size)
    window = (inputs.shape[1], patch_size, patch_size)
    pixels = _attribute("occlusion", "Occlusion", model, inputs, target, MOST_AT_ONCE, progress,
                        slopes=False, sliding_window_shapes=window, strides=window,
                        perturbations_per_eval=pass_size(inputs))
    return pixels[:, 0, ::patch_size, ::patch_size].to(inputs)


@plain_numbers
def kernel_shap(model: nn.Module, inputs: Tensor, target: Target = None, patch_size: int = 4,
                samples: int = 512, seed: int = 0, progress: bool = True) -> Tensor:
    """Shapley values of patches, from `samples` random coalitions; absent patches are grey (zeros).

    One value a patch, signed: (batch, height / patch_size, width / patch_size). A map sums to f(x)
    - f(0), f the target's logit, and with few samples its values are noisy; `samples` must exceed
    the number of patches. Coalitions follow from `seed` and are the same for every picture, so that
    a map does not depend on the rest of its batch; the global random state stays as it is. Lundberg
    and Lee, arXiv 1705.07874. Raises LabError on patches that do not divide the picture, too few
    samples and targets out of range.
    """
    _require_patches("kernel_shap", inputs, patch_size)
    rows, columns = inputs.shape[-2] // patch_size, inputs.shape[-1] // patch_size
    if rows * columns < 2:
        raise LabError(f"kernel_shap: patch_size={patch_size} is one patch of the whole; reduce it")
    require_range("kernel_shap", "samples", samples, rows * columns + 1)
    numbers = torch.arange(rows * columns).view(rows, columns)
    numbers = numbers.repeat_interleave(patch_size, 0).repeat_interleave(patch_size, 1)
    maps = _attribute("kernel_shap", "KernelShap", model, inputs, target, MOST_AT_ONCE, progress,
                      slopes=False, seed=seed, n_samples=samples, return_input_shape=False,
                      feature_mask=numbers.expand(1, inputs.shape[1], -1, -1),  # patch of a pixel
                      perturbations_per_eval=pass_size(inputs))
    return maps.to(inputs).unflatten(1, (rows, columns))


def completeness_gap(model: nn.Module, inputs: Tensor, attribution: Tensor,
                     target: Target = None) -> Tensor:
    """How far a map's sum is from what the target's logit gained over a grey picture; (batch,).

    As a share of it, |sum(attribution) - (f(x) - f(0))| / |f(x) - f(0)|: 0 for a complete method,
    and large, whatever the map, for a picture whose logit is that of zeros. Raises LabError if maps
    and pictures differ in number.
    """
    require_images("completeness_gap", inputs)
    if len(attribution) != len(inputs):
        raise LabError(f"completeness_gap: {len(attribution)} maps for {len(inputs)} pictures; "
                       "give as many")
    with explaining("completeness_gap", model, inputs, target, False) as (model, pictures, classes):
        gains = logits_of(model, pictures) - logits_of(model, torch.zeros_like(pictures))
        gain = gains.gather(1, classes[:, None])[:, 0].to(inputs.device)
    return (attribution.detach().to(inputs.device).flatten(1).sum(dim=1) - gain).abs() / gain.abs()


def _attribute(caller: str, kind: str, model: nn.Module, inputs: Tensor, target: Target,
               copies: int, progress: bool = False, slopes: bool = True, seed: int = 0,
               **settings: Any) -> Tensor:
    """What captum's class `kind` makes of pictures, in batches, in the type and place of the model.

    `copies`: how many inputs of the model it makes of one picture; each batch draws from `seed`.
    """
    maps = []
    with (explaining(caller, model, inputs, target, slopes) as (model, pictures, classes),
          progress_bar(len(pictures), caller, " pictures", progress) as bar,
          torch.random.fork_rng(devices=[])):          # captum draws on the CPU alone
        from captum import attr

        size = max(1, pass_size(pictures) // copies)
        settings = to_device(settings, pictures.device)
        for part, part_classes in zip(pictures.split(size), classes.split(size)):
            torch.default_generator.manual_seed(seed)
            method = getattr(attr, kind)(model)
            maps.append(method.attribute(part, target=part_classes, **settings).detach())
            bar.update(len(part))
    return torch.cat(maps)


def _require_patches(caller: str, inputs: Tensor, patch_size: int) -> None:
    require_images(caller, inputs)
    require_range(caller, "patch_size", patch_size, 1, min(inputs.shape[-2:]))
    for side in inputs.shape[-2:]:
        require_multiple(caller, "the picture's side", side, patch_size, "the side of a patch")


def _last_norm(model: nn.Module) -> nn.Module:
    try:
        return model.blocks[-1].norm1
    except (AttributeError, IndexError, TypeError) as error:
        raise LabError(f"grad_cam: {type(model).__name__} has no blocks of tokens with a norm; "
                       "give layer=, one of tokens (batch, tokens, dim) or of feature maps (batch, "
                       "channels, rows, columns), as model.stages[-1]") from error


def _require_feature_map(model: nn.Module, layer: nn.Module, outputs: list[Any]) -> Tensor:
    """The output of `layer`. Raises LabError unless it is tokens or maps and has a gradient."""
    name = f"grad_cam: {type(layer).__name__}"
    if not outputs:
        raise LabError(f"{name} was not reached in the forward; give layer= a module of this very "
                       "model, as model.blocks[-1].norm1")
    if not isinstance(outputs[-1], Tensor) or outputs[-1].ndim not in (3, 4):
        raise LabError(f"{name} gives {tuple(getattr(outputs[-1], 'shape', ()))}; give one of "
                       "tokens (batch, tokens, dim) or maps (batch, channels, rows, columns)")
    if not outputs[-1].requires_grad:
        raise reentrant_error("grad_cam", model)
    if outputs[-1].ndim == 3 and not timm_parts.in_reading_order(model, layer):
        raise LabError("grad_cam: inside a stage of LightViT tokens stand window by window; "
                       "give layer=model.norm")
    return outputs[-1]


def _as_image(model: nn.Module, inputs: Tensor, values: Tensor) -> Tensor:
    """Feature maps as they are; the patches among tokens (B, N, dim) as (B, dim, rows, columns)."""
    if values.ndim == 4:
        return values
    prefix, rows, columns = timm_parts.layout(model, inputs, values.shape[1])
    return values[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
