"""Scores of maps against masks: does a map point at the object? All are in [0, 1], and larger is
better.

A coarse map is never smoothed on its way to the mask's pixels: bilinear interpolation would invent
a slope between two cells, and carry weight out of the object or into it. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import LabError, plain_numbers, require_range
from ..runtime.running import double

MEND_MASKS = 'give masks (batch, height, width), as data.load("shapes", "test").masks'


@plain_numbers
def at_resolution(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (batch, r, c) on a grid of `rows` x `columns`: every pixel takes the value of the cell
    its centre is in.

    Where the map is the finer one, a pixel takes the mean of the map's cells. Raises LabError on
    what is no map.
    """
    require_maps("at_resolution", maps)
    finer = (min(rows, maps.shape[1]), min(columns, maps.shape[2]))
    if finer != tuple(maps.shape[1:]):
        # double, so that ties stay ties
        maps = F.adaptive_avg_pool2d(double(maps), finer).to(maps)
    for axis, size in ((1, rows), (2, columns)):
        if size != maps.shape[axis]:
            centres = (torch.arange(size, device=maps.device) + 0.5) * maps.shape[axis] / size
            maps = maps.index_select(axis, centres.long())
    return maps


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the map's highest pixels that lie in the mask, (batch,): 1 or 0, or between where
    pixels tie.

    `maps` (batch, rows, columns) on any grid, `masks` (batch, height, width). A constant map scores
    the mask's area. Zhang et al., arXiv 1608.00507, without their tolerance of some pixels. Raises
    LabError on maps or masks that do not fit, values that are not finite, and empty masks.
    """
    maps, masks = _fitted("pointing_game", maps, masks)
    highest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (highest & masks).sum(dim=(1, 2)) / highest.sum(dim=(1, 2))


def energy_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the map's positive mass that lies in the mask, (batch,). A map without any scores
    the mask's area.

    `maps` (batch, rows, columns) on any grid, `masks` (batch, height, width). Wang et al.,
    Score-CAM, arXiv 1910.01279. Raises LabError as `pointing_game` does.
    """
    maps, masks = _fitted("energy_in_mask", maps, masks)
    mass = maps.clamp_min(0)
    mass = torch.where(mass.sum(dim=(1, 2), keepdim=True) > 0, mass, 1.0)
    return (mass * masks).sum(dim=(1, 2)) / mass.sum(dim=(1, 2))


@plain_numbers
def best_iou(maps: Tensor, masks: Tensor, levels: int = 100) -> tuple[Tensor, float]:
    """Overlap of {map >= threshold} with the mask, intersection over union, (batch,), and the
    threshold.

    Each map is scaled to [0, 1], a constant one to 0. ONE threshold serves all pictures: of
    `levels` in [0, 1), the one with the highest mean, chosen on these very pictures. That is kind
    to every explainer alike; a threshold of its own for each picture would be kinder than any use.
    Threshold 0 takes the whole picture for the object, so that the mean area of the masks is the
    least that can come out. Choe et al., arXiv 2007.04178. Raises LabError as `pointing_game`.
    """
    require_range("best_iou", "levels", levels, 1)
    maps, masks = _fitted("best_iou", maps, masks)
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    scaled = (maps - low) / torch.where(high > low, high - low, 1.0)
    best, threshold = torch.zeros(len(maps), device=maps.device), 0.0
    for level in range(levels):
        found = scaled >= level / levels
        overlap = (found & masks).sum(dim=(1, 2)) / (found | masks).sum(dim=(1, 2))
        if overlap.mean() > best.mean():
            best, threshold = overlap, level / levels
    return best, threshold


def require_maps(caller: str, maps: Any) -> None:
    """Raise LabError unless `maps` is a float tensor (batch, rows, columns) of finite values."""
    shape = tuple(getattr(maps, "shape", ()))
    if not isinstance(maps, Tensor) or maps.ndim != 3 or not maps.is_floating_point() or 0 in shape:
        kind = f"{maps.dtype} of shape {shape}" if isinstance(maps, Tensor) else type(maps).__name__
        raise LabError(f"{caller}: maps are {kind}; give floats (batch, rows, columns), as all explainers return them")
    finite = maps.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        raise LabError(f"{caller}: map {int(finite.logical_not().nonzero()[0])} holds values that are not finite; "
                       "see whether the model's logits are: model(inputs).isfinite()")


def require_masks(caller: str, masks: Any, count: int) -> None:
    """Raise LabError unless `masks` is (count, height, width) with at least one pixel set in each."""
    if masks is None:
        raise LabError(f"{caller}: there are no masks to score against; {MEND_MASKS}")
    if not isinstance(masks, Tensor) or masks.ndim != 3:
        raise LabError(f"{caller}: masks have shape {tuple(getattr(masks, 'shape', ()))}; {MEND_MASKS}")
    if len(masks) != count:
        raise LabError(f"{caller}: {count} maps or pictures, but {len(masks)} masks; give one mask each")
    filled = masks.flatten(1).any(dim=1)
    if not filled.all():
        raise LabError(f"{caller}: the mask of picture {int(filled.logical_not().nonzero()[0])} is empty, and nothing "
                       "can point at it; leave such pictures out, with the index masks.flatten(1).any(1)")


def _fitted(caller: str, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Checked maps, in float32 at least, at the resolution of the masks, and these as bool on the
    maps' device.
    """
    require_maps(caller, maps)
    require_masks(caller, masks, len(maps))
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return at_resolution(maps, *masks.shape[1:]), masks.bool().to(maps.device)
