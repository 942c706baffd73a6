"""Scores of maps against masks: does a map point at the object? In [0, 1], larger is better.

A coarse map is never smoothed on its way to the mask's pixels: bilinear interpolation would invent
a slope between two cells, and carry weight out of the object or into it. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import LabError, plain_numbers
from ..runtime.running import double

LEVELS = 100         # thresholds that `best_iou` tries


@plain_numbers
def at_resolution(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (batch, r, c) at `rows` x `columns` pixels: each pixel takes the cell it lies in.

    Where the map is the finer one, a pixel takes the mean of the map's cells. Raises LabError on
    what is no map.
    """
    require_maps("at_resolution", maps)
    coarser = min(rows, maps.shape[1]), min(columns, maps.shape[2])
    if coarser != tuple(maps.shape[1:]):
        # in float64, so that ties stay ties
        maps = F.adaptive_avg_pool2d(double(maps), coarser).to(maps)
    for axis, size in ((1, rows), (2, columns)):
        if size != maps.shape[axis]:
            centres = (torch.arange(size, device=maps.device) + 0.5) * maps.shape[axis] / size
            maps = maps.index_select(axis, centres.long())
    return maps


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the map's highest pixels that lie in the mask, (batch,): 1 or 0 unless pixels tie.

    `maps` (batch, rows, columns) on any grid, `masks` (batch, height, width). A constant map scores
    the mask's area. Zhang et al., arXiv 1608.00507, without their tolerance of some pixels. Raises
    LabError on maps or masks that do not fit, values that are not finite, and empty masks.
    """
    maps, masks = _matched("pointing_game", maps, masks)
    highest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (highest & masks).sum(dim=(1, 2)) / highest.sum(dim=(1, 2))


def energy_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the map's positive mass that lies in the mask, (batch,); without any, its area.

    `maps` (batch, rows, columns) on any grid, `masks` (batch, height, width). Wang et al.,
    Score-CAM, arXiv 1910.01279. Raises LabError as `pointing_game` does.
    """
    maps, masks = _matched("energy_in_mask", maps, masks)
    mass = maps.clamp_min(0)
    mass = torch.where(mass.sum(dim=(1, 2), keepdim=True) > 0, mass, 1.0)
    return (mass * masks).sum(dim=(1, 2)) / mass.sum(dim=(1, 2))


def best_iou(maps: Tensor, masks: Tensor) -> tuple[Tensor, float]:
    """Intersection over union of {map >= threshold} and the mask, (batch,), and the threshold.

    Each map is scaled to [0, 1], a constant one to 0. ONE threshold serves all pictures: of 100 in
    [0, 1), the one with the highest mean, chosen on these very pictures. That is kind to every
    explainer alike; a threshold of its own for each picture would be kinder than any use. Threshold
    0 takes the whole picture for the object, so that the mean area of the masks is the least that
    can come out. Choe et al., arXiv 2007.04178. Raises LabError as `pointing_game` does.
    """
    maps, masks = _matched("best_iou", maps, masks)
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    scaled = (maps - low) / torch.where(high > low, high - low, 1.0)
    best, threshold = torch.zeros(len(maps), device=maps.device), 0.0
    for level in range(LEVELS):
        above = scaled >= level / LEVELS
        overlap = (above & masks).sum(dim=(1, 2)) / (above | masks).sum(dim=(1, 2))
        if overlap.mean() > best.mean():
            best, threshold = overlap, level / LEVELS
    return best, threshold


def require_maps(caller: str, maps: Any) -> None:
    """Raise LabError unless `maps` is a float tensor (batch, rows, columns) of finite values."""
    shape = tuple(getattr(maps, "shape", ()))
    if not isinstance(maps, Tensor) or maps.ndim != 3 or not maps.is_floating_point() or 0 in shape:
        kind = f"{maps.dtype} of shape {shape}" if isinstance(maps, Tensor) else type(maps).__name__
        raise LabError(f"{caller}: maps are {kind}; give floats (batch, rows, columns)")
    finite = maps.isfinite().flatten(1).all(dim=1).tolist()
    if False in finite:
        raise LabError(f"{caller}: map {finite.index(False)} holds values that are not finite; "
                       "check the model's logits: model(inputs).isfinite()")


def require_masks(caller: str, masks: Any, count: int) -> None:
    """Raise LabError unless `masks` is (count, height, width) with a pixel set in each."""
    if not isinstance(masks, Tensor) or masks.ndim != 3 or len(masks) != count:
        shape = tuple(getattr(masks, "shape", ()))
        given = "there are no masks" if masks is None else f"masks have shape {shape}"
        raise LabError(f"{caller}: {given}; give ({count}, height, width), one for each picture, "
                       'as data.load("shapes", "test").masks')
    filled = masks.flatten(1).any(dim=1).tolist()
    if False in filled:
        raise LabError(f"{caller}: the mask of picture {filled.index(False)} is empty; leave such "
                       "pictures out, with the index masks.flatten(1).any(1)")


def _matched(caller: str, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Checked maps at the masks' resolution, in float32 at least, and the masks as bool."""
    require_maps(caller, maps)
    require_masks(caller, masks, len(maps))
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return at_resolution(maps, *masks.shape[1:]), masks.bool().to(maps.device)
