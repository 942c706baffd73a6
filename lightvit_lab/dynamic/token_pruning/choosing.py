"""Which tokens stay: the choice as a module without weights, so that a hook can record it."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, number
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, on_device


class Choose(nn.Module):
    """The `count` highest of scores (batch, n) -> their places (batch, count), highest first."""

    def forward(self, scores: Tensor, count: int) -> Tensor:
        return scores.topk(count, dim=1).indices


def kept_count(keep_ratio: float, present: int) -> int:
    """How many of `present` tokens stay: their share, rounded up; rounding errors add none."""
    return math.ceil(keep_ratio * present - 1e-9)


def require_share(caller: str, keep_ratio: Any) -> float:
    """`keep_ratio` as a float. Raises LabError unless 0 < keep_ratio <= 1."""
    share = number(keep_ratio)
    if share is None or not 0 < share <= 1:
        raise LabError(f"{caller}: keep_ratio={keep_ratio!r}; give the share to keep, "
                       "0 < keep_ratio <= 1")
    return float(share)


def kept_patches(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The patches that stay after each choice for `inputs`, in eval mode: a list of (batch, k).

    Patches count row by row from 0; -1 stands for a fused token, or for none at all where pictures
    keep different numbers. Raises LabError for a model that chooses no tokens.
    """
    choices = [module for module in model.modules() if isinstance(module, Choose)]
    if not choices:
        raise LabError(f"kept_patches: {type(model).__name__} drops no tokens; give what "
                       "prune_tokens(model, 0.7, layers=(1, 3)) returns")
    chosen: list[Tensor] = []

    def record(_module: nn.Module, _inputs: tuple, _keywords: dict, places: Tensor) -> None:
        chosen.append(places)

    with on_device(model), hooked([Hook(module, "output", record) for module in choices]):
        model(as_input(model, inputs))
    patches: list[Tensor] = []
    for places in chosen:           # among the tokens that the choices before had kept
        places = places.to(inputs.device)
        if patches:
            before = F.pad(patches[-1], (0, 1), value=-1)   # the fused token's
            places = before.gather(1, places.where(places >= 0, before.shape[1] - 1))
        patches.append(places)
    return patches
