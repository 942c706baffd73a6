"""Insertion and deletion: what a model makes of a picture as the pixels that a map holds important
come or go.

Petsiuk, Das and Saenko, RISE, arXiv 1806.07421. No mask is needed, but the model sees pictures that
it never saw in training: what fills the holes is part of the answer. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_choice, require_range
from .passes import explaining, logits_of, pass_size
from .relevance import Target
from .scoring import at_resolution, require_maps

BASELINES = ("mean", "blur")


@dataclass(frozen=True)
class Curves:
    """The probability of the target as pixels come (`insertion`) or go (`deletion`), (batch, steps
    + 1) each.
    """

    insertion: Tensor
    deletion: Tensor

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the curve of insertion, (batch,), in [0, 1]: high if few pixels suffice."""
        return _area(self.insertion)

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the curve of deletion, (batch,), in [0, 1]: low if few pixels are missed at
        once.
        """
        return _area(self.deletion)


@plain_numbers
def insertion_deletion(model: nn.Module, inputs: Tensor, maps: Tensor, target: Target = None,
                       steps: int = 16, baseline: str = "mean", seed: int = 0) -> Curves:
    """The target's probability after each of `steps` equal helpings of pixels, the most important
    first.

    `maps` (batch, rows, columns) on any grid. Pixels of equal importance, as those of one patch,
    follow in a random order, which hangs on `seed` alone and is the same for all pictures. Where a
    pixel is missing, the picture has the mean of the training pictures (0 in normalised `inputs`)
    or a "blur" of itself. The model runs in eval mode, without gradients; the curves are in
    float32, on the device of `inputs`. Raises LabError if maps and pictures differ in number, and
    on bad steps, baselines and targets.
    """
    require_choice("insertion_deletion", "baseline", baseline, BASELINES)
    require_maps("insertion_deletion", maps)
    with explaining("insertion_deletion", model, inputs, target, slopes=False) as (model, pictures, classes):
        if len(maps) != len(pictures):
            raise LabError(f"insertion_deletion: {len(maps)} maps for {len(pictures)} pictures; give one map each")
        size = pictures.shape[-2:]
        require_range("insertion_deletion", "steps", steps, 1, size.numel())
        # (B, 1, H, W)
        places = ranks(at_resolution(maps, *size), seed).to(pictures.device)[:, None]
        empty = torch.zeros_like(pictures) if baseline == "mean" else blurred(pictures)
        counts = [round(step * size.numel() / steps) for step in range(steps + 1)]
        at_once = max(1, pass_size(pictures) // len(pictures))
        curves = [torch.cat([_probabilities(model, before, after, places, counts[start:start + at_once], classes)
                             for start in range(0, len(counts), at_once)]).T.contiguous()
                  for before, after in ((empty, pictures), (pictures, empty))]
    return Curves(*(curve.to(inputs.device) for curve in curves))


def ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """Each pixel's place in the order of falling importance, from 0; (batch, height, width). Ties
    as `seed` says.
    """
    flat = maps.flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view_as(maps)


def blurred(inputs: Tensor) -> Tensor:
    """Pictures (batch, channels, height, width) after two means over windows of about a third of
    their shorter side.
    """
    reach = max(1, min(inputs.shape[-2:]) // 6)
    for _ in range(2):
        inputs = F.avg_pool2d(inputs, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    return inputs


def _probabilities(
    model: nn.Module,
    before: Tensor,
    after: Tensor,
    places: Tensor,
    counts: list[int],
    classes: Tensor,
) -> Tensor:
    """The classes' probabilities where the first `counts` pixels are those of `after`:
    (len(counts), batch).
    """
    pictures = torch.cat([torch.where(places < count, after, before) for count in counts])
    chances = logits_of(model, pictures).float().softmax(dim=1).unflatten(0, (len(counts), -1))
    return chances.gather(2, classes.expand(len(counts), -1)[..., None])[..., 0]


def _area(curve: Tensor) -> Tensor:
    """By the trapezoidal rule, the whole way being 1."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)
