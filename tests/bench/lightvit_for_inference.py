"""LightViT made ready to answer: the same function in fewer passes over memory, no longer trained.

It stands beside the benchmark that times it, since it calls operators that PyTorch keeps private.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightvit_lab.errors import LabError
from lightvit_lab.models.lightvit import BiAttnMlp, Grid, LightViT, LightViTAttention
from lightvit_lab.models.transforming import require_own_weights
from lightvit_lab.runtime.wrapped import require_unwrapped


class PackedHidden(nn.Module):
    """Linear, GELU, linear. Where oneDNN can, it reorders the weights once, here, and applies the GELU as it computes.

    These are the operators that `torch.compile` calls when it freezes weights; elsewhere the plain layers do it.
    """

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear):
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2
        self.packed = can_pack(fc1.weight)
        if self.packed:
            self.weights = [torch.ops.mkldnn._reorder_linear_weight(layer.weight) for layer in (fc1, fc2)]

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.packed:
            return self.fc2(F.gelu(self.fc1(tokens)))
        linear, (wide, narrow) = torch.ops.mkldnn._linear_pointwise, self.weights
        hidden = linear(tokens, wide, self.fc1.bias, "gelu", [], "none")
        return linear(hidden, narrow, self.fc2.bias, "none", [], "")


class ImageByImage(nn.Module):
    """The stem, run on one image after the other.

    Its maps are the largest of the model. Those of one image stay in memory that is already held; for those of a batch
    the system is asked anew in each layer, and clears every page.
    """

    def __init__(self, stem: nn.Module):
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        outputs = [self.stem(image) for image in images.split(1)]
        return torch.cat([tokens for tokens, _ in outputs]), outputs[0][1]


def can_pack(weight: Tensor) -> bool:
    """True for float32 on a CPU whose torch has oneDNN's operators."""
    return (weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"))


@torch.inference_mode(False)      # its parts may still be looked at with gradients of the inputs
def for_inference(model: LightViT) -> LightViT:
    """A copy in eval mode whose logits are those of `model` to rounding; `model` is left untouched.

    Batch norm is folded into the stem's convolutions, which then work channels last; position biases are looked up
    once; the MLPs are `PackedHidden`. Move `model` to its device and type before: a packed copy can be neither moved
    nor copied. Raises LabError if it is no LightViT.
    """
    require_unwrapped("for_inference", model)
    if not isinstance(model, LightViT):
        raise LabError(f"for_inference: {type(model).__name__} is no LightViT; create_model('lightvit_tiny') is")
    require_own_weights("for_inference", model)
    model = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_batch_norm(model.patch_embed.stem)
    model.patch_embed.to(memory_format=torch.channels_last)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear):   # its transpose, which is what is multiplied by, then lies in one piece
            module.weight = nn.Parameter(module.weight.t().contiguous().t(), requires_grad=False)
        elif isinstance(module, LightViTAttention):
            bias = module.look_up_bias(module.window_size**2)
            module.look_up_bias = lambda area, bias=bias: bias
        elif isinstance(module, BiAttnMlp):
            module.fc1, module.act, module.fc2 = PackedHidden(module.fc1, module.fc2), nn.Identity(), nn.Identity()
    if model.global_token.device.type == "cpu":
        model.patch_embed = ImageByImage(model.patch_embed)
    return model


def _fold_batch_norm(layers: nn.Sequential) -> None:
    """Scale the convolution before each batch norm instead of what comes out of it."""
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            layers[index - 1], layers[index] = fuse_conv_bn_eval(layers[index - 1], layer), nn.Identity()
