"""Which tokens stay: the choice as a module without weights, so that whoever wants to see it can
watch it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import LabError
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, on_device


class Choose(nn.Module):
    """The `count` highest of scores (batch, n) -> their places (batch, count), highest first."""

    def forward(self, scores: Tensor, count: int) -> Tensor:
        return scores.topk(count, dim=1).indices


def kept_count(keep_ratio: float, present: int) -> int:
    """How many of `present` tokens stay: their share, rounded up; what floats add to a whole number
    is none.
    """
    return math.ceil(keep_ratio * present - 1e-9)


def kept_patches(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Which patches are left after each choice for `inputs`: a list of (batch, k), row by row from
    0, in eval mode.

    -1 stands for a fused token, or for none at all where pictures keep different numbers. Raises
    LabError for a model that chooses no tokens.
    """
    found: list[Tensor] = []
    chosen = [module for module in model.modules() if isinstance(module, Choose)]
    if not chosen:
        raise LabError(f"kept_patches: {type(model).__name__} drops no tokens; give what prune_tokens(model, 0.7, "
                       "layers=(1, 3)) returns")

    def record(_module: nn.Module, _given: tuple, _keywords: dict, places: Tensor) -> None:
        found.append(places.to(inputs.device))

    with on_device(model), hooked([Hook(module, "output", record) for module in chosen]):
        model(as_input(model, inputs))
    return _followed(found)


def _followed(choices: list[Tensor]) -> list[Tensor]:
    """Places among the tokens that were present -> patches, through all choices before."""
    left: list[Tensor] = []
    for places in choices:
        # one column more for the fused token, and for places of -1
        if left:
            before = torch.cat([left[-1], left[-1].new_full((places.shape[0], 1), -1)], dim=1)
            places = before.gather(1, places.where(places >= 0, before.shape[1] - 1))
        left.append(places)
    return left
