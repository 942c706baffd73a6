"""Parameters and multiply-accumulates of a model, exact for matrix products and convolutions.

The model runs once on torch's meta device, where tensors have shapes and no values: nothing is computed, and fused
attention falls apart into the two matrix products it consists of, which torch's own counter then sees. (On a CPU
that counter misses fused attention altogether.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import LabError


@dataclass(frozen=True)
class Count:
    """Cost of one image. `macs` counts multiply-accumulates of matrix products and convolutions; `flops` is twice that."""

    params: int
    macs: int
    weight_bytes: int
    by_module: dict[str, int]

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-accumulate is two."""
        return 2 * self.macs


def count(model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)) -> Count:
    """Count `model` on one image of `input_size` = (channels, height, width), in eval mode; the model is left untouched.

    Norms, activations, softmax and additions are not counted: by convention, MACs are those of matrix products.
    Raises LabError if the model does not take such an image.
    """
    ghost = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            ghost(torch.empty(1, *input_size, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise LabError(f"count: the model does not take an image of {tuple(input_size)}: {error}") from error
    by_module = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items() if name != "Global"}
    tensors = [*model.parameters(), *model.buffers()]
    return Count(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        by_module=by_module,
    )
