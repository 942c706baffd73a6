"""Closed-form compensation: layers that lost inputs are refitted to the outputs they had before.

A linear layer y = W x + b that is left with the inputs x_S gives y_S. Ridge regression on a few
pictures finds the change of W_S and b that brings y_S nearest to the output of the whole model's
layer. Layers are refitted one after the other, while the pictures pass through the pruned model
once: each also makes up for what is left of errors before it. Derived in
chapters/compression/pruning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, cast, double, on_device
from .activations import record_activations

# added to the diagonal, a share of the inputs' mean square: neurons that never fire, or fire alike,
# leave a singular matrix
LEAST = 1e-12


def correction(inputs: Tensor, missing: Tensor, ridge: float, centred: bool = True) -> Tensor:
    """The change of weights (outputs, n) that best turns `inputs` (tokens, n) into `missing`.

    `missing` is (tokens, outputs). `ridge` is a share of the inputs' mean variance, so that it
    means the same in every layer, and infinite allows no change. A layer without a bias to take up
    the means is given them as they are: `centred=False`.
    """
    if math.isinf(ridge):
        return inputs.new_zeros(missing.shape[1], inputs.shape[1])
    size = double(inputs.square().mean())
    if centred:
        inputs, missing = inputs - inputs.mean(0), missing - missing.mean(0)
    with cast("float32", inputs.device):
        products, across = inputs.T @ inputs / len(inputs), inputs.T @ missing / len(inputs)
    products, across = double(products), double(across)
    weight = ridge * products.diagonal().mean() + LEAST * size + 1e-30
    ridged = products + weight * torch.eye(len(products)).to(products)
    return torch.linalg.solve(ridged, across).T.to(inputs)


def refit(pruned: nn.Module, whole: nn.Module, names: Sequence[str], inputs: Tensor,
          ridge: float) -> nn.Module:
    """Refit, in place, the linear layers `names` of `pruned` that lost inputs; returns `pruned`.

    `whole` is the model before. `inputs` (B, C, H, W) are the calibration pictures. All go through
    at once.
    """
    layers = {name: (whole.get_submodule(name), "output") for name in names
              if pruned.get_submodule(name).in_features < whole.get_submodule(name).in_features}
    with record_activations(whole, layers) as recorded:
        whole(as_input(whole, inputs))
    wanted = {pruned.get_submodule(name): recorded[name][1] for name in layers}

    def correct(layer: nn.Linear, given: tuple, _keywords: dict) -> None:
        _correct(layer, given[0], wanted[layer], ridge)

    hooks = [Hook(layer, "input", correct) for layer in wanted]
    with on_device(pruned, precision="float32"), hooked(hooks):
        pruned(as_input(pruned, inputs))
    return pruned


def _correct(layer: nn.Linear, given: Tensor, wanted: Tensor, ridge: float) -> None:
    """Bring what `layer` makes of `given` (..., inputs) nearer to `wanted` (..., outputs)."""
    missing = (wanted - F.linear(given, layer.weight, layer.bias)).flatten(0, -2).float()
    given, has_bias = given.flatten(0, -2).float(), layer.bias is not None
    change = correction(given, missing, ridge, centred=has_bias)
    layer.weight += change
    if has_bias:
        layer.bias += missing.mean(0) - change @ given.mean(0)
