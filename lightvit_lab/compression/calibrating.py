"""What layers see of a few pictures: the moments of their inputs, which compensation and low-rank
factors are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    """Inputs (B, C, H, W) and labels (B,), or None, of `calibration`: normalised pictures, or a
    pair with their labels.

    Raises LabError if there are none, only one, if they are not normalised, or if `labels` are
    needed and missing.
    """
    if calibration is None:
        needs = "a pair (inputs, labels)" if labels else "inputs (batch, channels, height, width)"
        raise LabError(f"{caller}: this needs calibration, {needs}; data.load(name, count=128) has them: "
                       "calibration=pictures.batch(torch.arange(128))")
    inputs, given = calibration if isinstance(calibration, tuple | list) else (calibration, None)
    require_images(caller, inputs)
    if len(inputs) < 2:
        raise LabError(f"{caller}: calibration has {len(inputs)} pictures, of which no statistics can be made; give 32 or more")
    if not torch.isfinite(inputs).all() or inputs.mean().abs() > 5 or inputs.std() > 20 or inputs.min() >= 0:
        raise LabError(f"{caller}: calibration runs from {inputs.min():.3g} to {inputs.max():.3g}, where normalised pictures are "
                       "on both sides of 0; give (images - mean) / std, as pictures.batch(index) does")
    if labels and (given is None or given.shape != (len(inputs),)):
        found = "none" if given is None else f"shape {tuple(given.shape)}"
        raise LabError(f"{caller}: this importance needs a label for each picture (found: {found}); give "
                       "calibration=(inputs, labels)")
    return inputs, given


@plain_numbers
def input_moments(model: nn.Module, inputs: Tensor, modules: Mapping[str, nn.Module],
                  batch_size: int = 64) -> dict[str, Moments]:
    """Moments of what each of `modules` (parts of `model`) is given, in eval mode, over all tokens
    of `inputs`.

    Products are made in float32 batch by batch and added up in float64.
    """
    found: dict[str, Moments] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple, _keywords: dict) -> None:
            seen = arguments[0].flatten(0, -2).float()
            new = Moments(len(seen), double(seen.sum(0)), double(seen.T @ seen))
            old = found.get(name)
            found[name] = new if old is None else Moments(old.count + new.count, old.total + new.total,
                                                          old.products + new.products)
        return hook

    hooks = [Hook(module, "input", record(name)) for name, module in modules.items()]
    with on_device(model, precision="float32"), hooked(hooks):
        for part in inputs.split(batch_size):
            model(as_input(model, part))
    return {name: Moments(one.count, one.total.cpu(), one.products.cpu())
            for name, one in found.items()}
