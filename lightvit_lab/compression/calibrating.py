"""Moments of the inputs of layers, on a few pictures: for compensation and low-rank factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_images
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, double, on_device

Calibration = Tensor | tuple[Tensor, Tensor]     # inputs (B, C, H, W), or inputs and labels (B,)


@dataclass
class Moments:
    """Over `count` tokens of a layer's inputs x (n,): sums `total` of x and `products` of x x^T.

    In float64, on the CPU.
    """

    count: int
    total: Tensor
    products: Tensor

    @property
    def mean(self) -> Tensor:
        """(n,) mean of the inputs."""
        return self.total / self.count

    @property
    def second_moment(self) -> Tensor:
        """(n, n) mean of x x^T, not centred."""
        return self.products / self.count

    @property
    def covariance(self) -> Tensor:
        """(n, n) centred."""
        return self.second_moment - torch.outer(self.mean, self.mean)


def require_calibration(caller: str, calibration: Calibration | None,
                        labels: bool = False) -> tuple[Tensor, Tensor | None]:
    """Inputs (B, C, H, W) and labels (B,), or None, of `calibration`.

    That is normalised pictures, or a pair with their labels. Raises LabError if there are none,
    only one, if they are not normalised, or if `labels` are needed and missing.
    """
    if calibration is None:
        needs = "a pair (inputs, labels)" if labels else "inputs (batch, channels, height, width)"
        raise LabError(f"{caller}: this needs calibration, {needs}; data.load(name, count=128) has "
                       "them: calibration=pictures.batch(torch.arange(128))")
    is_pair = isinstance(calibration, tuple | list)
    inputs, given = calibration if is_pair else (calibration, None)
    require_images(caller, inputs)
    if len(inputs) < 2:
        pictures = "1 picture" if len(inputs) == 1 else "0 pictures"
        raise LabError(f"{caller}: calibration has {pictures}; give 32 or more")
    low, high, far = inputs.min(), inputs.max(), inputs.mean().abs() > 5 or inputs.std() > 20
    if not torch.isfinite(inputs).all() or far or low >= 0:
        raise LabError(f"{caller}: calibration runs from {low:.3g} to {high:.3g}, and is not "
                       "normalised; give (images - mean) / std, as pictures.batch(index) does")
    if labels and (given is None or given.shape != (len(inputs),)):
        found = "none" if given is None else f"shape {tuple(given.shape)}"
        raise LabError(f"{caller}: this importance needs a label for each picture, found {found}; "
                       "give calibration=(inputs, labels)")
    return inputs, given


@plain_numbers
def input_moments(model: nn.Module, inputs: Tensor, modules: Mapping[str, nn.Module],
                  batch_size: int = 64) -> dict[str, Moments]:
    """Moments of what `modules` (parts of `model`) are given, over all tokens of `inputs`.

    In eval mode. Products are made in float32 batch by batch and added up in float64.
    """
    moments = {name: Moments(0, torch.zeros(()), torch.zeros(())) for name in modules}

    def add(name: str, _module: nn.Module, arguments: tuple, _keywords: dict) -> None:
        tokens, one = arguments[0].flatten(0, -2).float(), moments[name]
        one.count += len(tokens)
        one.total = one.total + double(tokens.sum(0))
        one.products = one.products + double(tokens.T @ tokens)

    hooks = [Hook(module, "input", partial(add, name)) for name, module in modules.items()]
    with on_device(model, precision="float32"), hooked(hooks):
        for part in inputs.split(batch_size):
            model(as_input(model, part))
    return {name: Moments(each.count, each.total.cpu(), each.products.cpu())
            for name, each in moments.items() if each.count}
