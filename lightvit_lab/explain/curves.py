"""Insertion and deletion: the model's answer as a map's most important pixels come or go.

Petsiuk, Das and Saenko, RISE, arXiv 1806.07421. No mask is needed, but the model is given pictures
such as it was never trained on: what fills the holes is part of the answer. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from .passes import Target, explaining, logits_of, pass_size
from .scoring import at_resolution, require_maps


@dataclass(frozen=True)
class Curves:
    """Probability of the target, (batch, steps + 1) each, as pixels come or go."""

    insertion: Tensor
    deletion: Tensor

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the curve of insertion, (batch,), in [0, 1]: high if few pixels suffice."""
        return _area(self.insertion)

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the curve of deletion, (batch,), in [0, 1]: low if it falls at once."""
        return _area(self.deletion)


@plain_numbers
def insertion_deletion(model: nn.Module, inputs: Tensor, maps: Tensor, target: Target = None,
                       steps: int = 16, seed: int = 0) -> Curves:
    """The target's probability while pixels are added or removed in `steps` parts, the best first.

    `maps` (batch, rows, columns) on any grid. Pixels of equal importance, as those of one patch,
    follow in a random order, which depends on `seed` alone and is the same for all pictures. A
    missing pixel has the mean of the training pictures, 0 in normalised `inputs`. The model runs in
    eval mode, without gradients; the curves are in float32, on the device of `inputs`. Raises
    LabError if maps and pictures differ in number, and on bad steps and targets.
    """
    require_maps("insertion_deletion", maps)
    caller = "insertion_deletion"
    with explaining(caller, model, inputs, target, slopes=False) as (model, pictures, classes):
        if len(maps) != len(pictures):
            raise LabError(f"{caller}: {len(maps)} maps for {len(pictures)} pictures; "
                           "give one map each")
        pixels = pictures.shape[-2:].numel()
        require_range(caller, "steps", steps, 1, pixels)
        places = ranks(at_resolution(maps, *pictures.shape[-2:]), seed).to(pictures.device)[:, None]
        counts = torch.tensor([round(step * pixels / steps) for step in range(steps + 1)])
        insertion, deletion = [], []
        for some in counts.split(max(1, pass_size(pictures) // len(pictures))):
            first = places < some.view(-1, 1, 1, 1, 1).to(places.device)     # (steps, B, 1, H, W)
            insertion.append(_probabilities(model, pictures * first, classes))
            deletion.append(_probabilities(model, pictures * ~first, classes))
    return Curves(*(torch.cat(curve).T.contiguous().to(inputs.device)
                    for curve in (insertion, deletion)))


def ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """Each pixel's place, from 0, by falling importance, (batch, height, width); ties by `seed`."""
    flat, generator = maps.flatten(1), torch.Generator().manual_seed(seed)
    shuffle = torch.randperm(flat.shape[1], generator=generator).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view_as(maps)


def _probabilities(model: nn.Module, pictures: Tensor, classes: Tensor) -> Tensor:
    """Of `classes` (B,) in pictures (steps, B, channels, height, width): (steps, B)."""
    logits = logits_of(model, pictures.flatten(0, 1)).float().unflatten(0, pictures.shape[:2])
    return logits.softmax(dim=-1)[:, torch.arange(len(classes), device=classes.device), classes]


def _area(curve: Tensor) -> Tensor:
    """By the trapezoidal rule, over a way of length 1."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)
