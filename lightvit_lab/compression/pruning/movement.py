"""Movement pruning: zeros for the weights that training moves towards zero.

Sanh et al., arXiv 2005.07683. Each weight has a score. The forward pass uses the weights with the
highest scores of their layer alone; the backward pass treats that choice as if it were the score
itself, so the score's gradient is that of the weight in use times the weight. The share of zeros
grows along a cubic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...data import Pictures
from ...errors import LabError, number, plain_numbers, require_range
from ...models.transforming import copied, require_own_weights, transformed
from ...runtime.wrapped import require_unwrapped
from ...training import Batch, fit
from ...training.objectives import label_objective
from .unstructured import apply_sparsity, share_of_zeros, weighted_layers

WARM_UP, COOL_DOWN = 0.1, 0.3      # shares of the run before the first zero, and with all of them


class Moving(nn.Module):
    """A weight (m, n) -> the same, zero where its scores are lowest: a parametrization.

    Scores are one row, not a matrix, so that no optimizer decays them or turns them as it does
    matrices.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight).flatten())
        self.register_buffer("mask", torch.ones_like(self.scores))
        # a buffer, so that it is in the state and a run can be resumed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, weight: Tensor) -> Tensor:
        straight_through = self.mask + self.scores - self.scores.detach()
        return weight * straight_through.view_as(weight)

    @torch.no_grad()
    def step(self, ratio: float, steps: int) -> None:
        """Choose the zeros of the next of `steps` steps."""
        zeros = round(scheduled(ratio, int(self.steps) / max(1, steps - 1)) * self.scores.numel())
        self.mask.fill_(1.0)
        if zeros:
            self.mask[self.scores.argsort(stable=True)[:zeros]] = 0.0
        self.steps += 1


@plain_numbers
@torch.inference_mode(False)      # scores made inside of it could never be trained
def movement_prune(model: nn.Module, data: Pictures, ratio: float, steps: int,
                   **settings: Any) -> nn.Module:
    """A copy of `model`, trained on `data` while the share `ratio` of its blocks' weights goes.

    `settings` are those of `training.fit`. In each linear layer of the blocks that share is zero at
    the end; the model has its old shapes and parts. Raises LabError on ratios outside (0, 1), fewer
    than 10 steps, and models with zeros already.
    """
    if number(ratio) is None or not 0 < ratio < 1:
        raise LabError(f"movement_prune: ratio={ratio!r}; give the share of weights to make zero, "
                       "0 < ratio < 1")
    require_range("movement_prune", "steps", steps, 10)
    require_unwrapped("movement_prune", model)
    require_own_weights("movement_prune", model)
    student = copied(model)
    layers = weighted_layers("movement_prune", student)
    for name, layer in layers.items():
        if share := share_of_zeros(layer.weight):
            raise LabError(f"movement_prune: {share:.1%} of {name} are zero already and stay; "
                           "give the model before it was pruned, or use pruning.keep_zeros(model)")
    moving = {layer: Moving(layer.weight) for layer in layers.values()}
    for layer, part in moving.items():
        parametrize.register_parametrization(layer, "weight", part)
    inner = settings.pop("objective", None) or label_objective(settings.pop("label_smoothing", 0.0))

    def objective(model: nn.Module, batch: Batch) -> Any:
        for part in moving.values():
            part.step(ratio, steps)
        return inner(model, batch)

    fit(student, data, steps=steps, objective=objective, **settings)
    for layer in moving:
        parametrize.remove_parametrizations(layer, "weight")
    plan = {"transform": "prune_weights", "importance": "movement", "ratio": ratio,
            "pattern": None, "budget": "layer"}
    sparse = transformed(model, plan, apply_sparsity)
    sparse.load_state_dict(student.state_dict())
    return sparse


def scheduled(ratio: float, done: float) -> float:
    """Share of zeros when the share `done` of the run is over: 0, a cubic to `ratio`, `ratio`."""
    along = min(1.0, max(0.0, (done - WARM_UP) / (1 - WARM_UP - COOL_DOWN)))
    return ratio * (1 - (1 - along) ** 3)
