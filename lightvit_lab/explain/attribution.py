"""Captum's methods on pictures, one call each: (model, inputs, target) -> (batch, rows, columns).

Maps have the type of `inputs` and lie on their device, wherever the model runs.

What a method needs decides what its map is worth. Integrated Gradients and occlusion ask for
gradients or logits alone, and hold for any model; KernelSHAP asks for logits, and is as good as its
samples; Grad-CAM reads one layer. DeepLift needs a rule for every part of the model, and captum's
has none for GELU, LayerNorm and a softmax inside fused attention: there it takes the plain gradient
without a word. It runs, and its map does not sum to what the logit gained. `completeness_gap` shows
by how much, and `deep_lift` is here for that lesson only. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_images, require_multiple, require_range
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.wrapped import unwrapped
from .passes import explaining, logits_of, parts, pass_size, shown
from .relevance import REENTRANT, Target


@plain_numbers
def integrated_gradients(model: nn.Module, inputs: Tensor, target: Target = None, steps: int = 32,
                         baseline: float = 0.0, progress: bool = True) -> Tensor:
    """Gradients along the straight line from `baseline` to the picture, times the way: (batch,
    height, width), signed.

    Summed over channels, so that a map sums to f(x) - f(baseline), f the target's logit, the better
    the more `steps`. Positive evidence alone is `.clamp_min(0)`. Sundararajan, Taly and Yan, arXiv
    1703.01365. Raises LabError on targets out of range and steps < 1.
    """
    require_range("integrated_gradients", "steps", steps, 1)
    with explaining("integrated_gradients", model, inputs, target) as (model, pictures, classes):
        from captum.attr import IntegratedGradients

        method, size = IntegratedGradients(model), pass_size(pictures)
        maps = [method.attribute(part, baselines=baseline, target=of, n_steps=steps, internal_batch_size=size)
                for part, of in parts(pictures, classes, max(1, size // steps), "integrated gradients", progress)]
    return torch.cat(maps).sum(dim=1).detach().to(inputs)


@plain_numbers
def deep_lift(model: nn.Module, inputs: Tensor, target: Target = None,
              baseline: float = 0.0) -> Tensor:
    """A caution, not a method for these models: captum's DeepLift, summed over channels, (batch,
    height, width).

    It has no rule for GELU, LayerNorm and fused softmax, falls back to plain gradients there, and
    is therefore not complete: see `completeness_gap`. Shrikumar, Greenside and Kundaje, arXiv
    1704.02685. Raises LabError on targets out of range.
    """
    with explaining("deep_lift", model, inputs, target) as (model, pictures, classes):
        from captum.attr import DeepLift

        method = DeepLift(model)
        maps = [method.attribute(part, baselines=torch.full_like(part, baseline), target=of)
                for part, of in parts(pictures, classes, max(1, pass_size(pictures) // 2), "DeepLift", False)]
    return torch.cat(maps).sum(dim=1).detach().to(inputs)


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
    with (explaining("grad_cam", model, inputs, target) as (model, pictures, classes),
          _as_feature_map(model, layer, pictures) as maps):
        from captum.attr import LayerGradCam

        method = LayerGradCam(model, maps)
        found = [method.attribute(part.requires_grad_(), target=of, relu_attributions=True)
                 for part, of in parts(pictures, classes, pass_size(pictures), "Grad-CAM", False)]
    return torch.cat(found)[:, 0].detach().to(inputs)


@plain_numbers
def occlusion(model: nn.Module, inputs: Tensor, target: Target = None, patch_size: int = 4,
              stride: int | None = None, baseline: float = 0.0, progress: bool = True) -> Tensor:
    """By how much the target's logit falls when a patch is covered with `baseline`.

    With `stride` None or `patch_size`, one value a patch: (batch, height / patch_size, width /
    patch_size). With a smaller one patches overlap, and a pixel has the mean of its patches:
    (batch, height, width). Zeiler and Fergus, arXiv 1311.2901. Raises LabError on patches that do
    not divide the picture and targets out of range.
    """
    _require_patches("occlusion", inputs, patch_size)
    stride = patch_size if stride is None else stride
    require_range("occlusion", "stride", stride, 1, patch_size)
    window, step = (inputs.shape[1], patch_size, patch_size), (inputs.shape[1], stride, stride)
    with explaining("occlusion", model, inputs, target, slopes=False) as (model, pictures, classes):
        from captum.attr import Occlusion

        method, size = Occlusion(model), pass_size(pictures)
        maps = [method.attribute(part, window, step, baseline, of, perturbations_per_eval=size)
                for part, of in parts(pictures, classes, 1, "occlusion", progress)]
    pixels = torch.cat(maps)[:, 0].detach().to(inputs)
    return pixels[:, ::patch_size, ::patch_size] if stride == patch_size else pixels


@plain_numbers
def kernel_shap(model: nn.Module, inputs: Tensor, target: Target = None, patch_size: int = 4,
                samples: int = 512, seed: int = 0, baseline: float = 0.0,
                progress: bool = True) -> Tensor:
    """Shapley values of patches, from `samples` random coalitions, signed.

    One value a patch: (batch, height / patch_size, width / patch_size). A map sums to f(x) -
    f(baseline), f the logit of the target, and with few samples its values are noisy; `samples`
    must exceed the number of patches. Coalitions follow from `seed` and are the same for every
    picture, so that a map does not depend on the rest of its batch; the global random state stays
    as it is. Lundberg and Lee, arXiv 1705.07874. Raises LabError on patches that do not divide the
    picture, too few samples and targets out of range.
    """
    _require_patches("kernel_shap", inputs, patch_size)
    rows, columns = inputs.shape[-2] // patch_size, inputs.shape[-1] // patch_size
    if rows * columns < 2:
        raise LabError(f"kernel_shap: patch_size={patch_size} makes one patch of the whole picture; give less")
    require_range("kernel_shap", "samples", samples, rows * columns + 1)
    with explaining("kernel_shap", model, inputs, target, slopes=False) as (model, pictures, classes):
        from captum.attr import KernelShap

        patches = _patch_numbers(rows, columns, patch_size, pictures)
        method, size, found = KernelShap(model), pass_size(pictures), []
        for part, of in parts(pictures, classes, 1, "KernelSHAP", progress and len(pictures) > 1):
            with torch.random.fork_rng(devices=[]):      # captum draws on the CPU alone
                torch.manual_seed(seed)
                found.append(method.attribute(part, baseline, of, feature_mask=patches, n_samples=samples,
                                              perturbations_per_eval=size, return_input_shape=False,
                                              show_progress=shown(progress) and len(pictures) == 1))
    return torch.cat(found).to(inputs).unflatten(1, (rows, columns))


@plain_numbers
def completeness_gap(model: nn.Module, inputs: Tensor, attribution: Tensor, target: Target = None,
                     baseline: float = 0.0) -> Tensor:
    """How far a map is from summing to what the target's logit gained over `baseline`, as a share
    of it; (batch,).

    |sum(attribution) - (f(x) - f(baseline))| / |f(x) - f(baseline)|: 0 for a complete method, and
    large, whatever the map, for a picture whose logit is that of the baseline. Raises LabError if
    maps and pictures differ in number.
    """
    require_images("completeness_gap", inputs)
    if len(attribution) != len(inputs):
        raise LabError(f"completeness_gap: {len(attribution)} maps for {len(inputs)} pictures; give one map each")
    with explaining("completeness_gap", model, inputs, target, slopes=False) as (model, pictures, classes):
        logits, empty = (logits_of(model, some) for some in (pictures, torch.full_like(pictures, baseline)))
        gain = (logits - empty).gather(1, classes[:, None])[:, 0].to(inputs.device)
    return (attribution.detach().to(inputs.device).flatten(1).sum(dim=1) - gain).abs() / gain.abs()


def _require_patches(caller: str, inputs: Tensor, patch_size: int) -> None:
    require_images(caller, inputs)
    require_range(caller, "patch_size", patch_size, 1, min(inputs.shape[-2:]))
    for side in inputs.shape[-2:]:
        require_multiple(caller, "the picture's side", side, patch_size, f"patches are {patch_size} x {patch_size}")


def _patch_numbers(rows: int, columns: int, patch_size: int, inputs: Tensor) -> Tensor:
    """The number of each pixel's patch, in reading order: (1, channels, height, width)."""
    numbers = torch.arange(rows * columns, device=inputs.device).view(rows, columns)
    pixels = numbers.repeat_interleave(patch_size, dim=0).repeat_interleave(patch_size, dim=1)
    return pixels.expand(1, inputs.shape[1], -1, -1)


def _last_norm(model: nn.Module) -> nn.Module:
    blocks = getattr(model, "blocks", None)
    last = blocks[-1] if isinstance(blocks, (nn.ModuleList, nn.Sequential)) and len(blocks) else None
    if not isinstance(getattr(last, "norm1", None), nn.Module):
        raise LabError(f"grad_cam: {type(model).__name__} has no blocks of tokens, whose last norm could be read; give "
                       "layer=, a module whose output is tokens (batch, tokens, dim) or a feature map (batch, "
                       "channels, rows, columns), as model.stages[-1] of a CNN")
    return last.norm1


@contextmanager
def _as_feature_map(model: nn.Module, layer: nn.Module, inputs: Tensor) -> Iterator[nn.Module]:
    """A module that, during a forward, is given the output of `layer` as (batch, channels, rows,
    columns).

    Captum's Grad-CAM takes dimension 1 for the channels; of tokens as they are it would average the
    wrong one. Raises LabError if a forward does not come by `layer`, or if its output is of another
    kind.
    """
    maps, reached = nn.Identity(), []

    def turn(_: nn.Module, __: tuple, ___: dict, output: Tensor) -> Tensor:
        reached.append(True)
        if not torch.is_grad_enabled():
            raise LabError(f"grad_cam: {type(model).__name__} {REENTRANT}")
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            shape = tuple(getattr(output, "shape", ()))
            raise LabError(f"grad_cam: {type(layer).__name__} gives {shape}; give a layer "
                           "of tokens (batch, tokens, dim) or of feature maps (batch, channels, rows, columns)")
        if output.ndim == 4:
            return maps(output).clone()
        if not timm_parts.in_reading_order(model, layer):
            raise LabError("grad_cam: inside a stage of LightViT tokens stand window by window; give layer=model.norm")
        prefix, rows, columns = timm_parts.layout(model, inputs, output.shape[1])
        image = maps(output[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns)))
        return torch.cat([output[:, :prefix], image.flatten(2).transpose(1, 2)], dim=1)

    with hooked([Hook(layer, "output", turn)]):
        try:
            yield maps
        except AssertionError as error:      # captum's, when it saw no output
            if reached:
                raise
            raise LabError(f"grad_cam: {type(layer).__name__} was not reached in the model's forward; give layer= a "
                           "module of this very model, as model.blocks[-1].norm1") from error
