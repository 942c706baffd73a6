"""Attention, flows and grids, as the library computes them, checked and put in an `Atlas`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import LabError, require_grid, require_images, require_range
from .atlas import Atlas, Maps


def atlas(images: Tensor, captions: Sequence[str], attention: Sequence[Tensor] = (),
          flows: Mapping[str, Tensor] | None = None, grids: Mapping[str, Tensor] | None = None,
          prefix: int = 1, grid: tuple[int, int] | None = None, caller: str = "atlas") -> Atlas:
    """Pictures (P, 3, H, W) in [0, 1] with their maps; arguments and errors as in `explorer`."""
    attention, flows, grids = list(attention), dict(flows or {}), dict(grids or {})
    _require_pictures(caller, images, captions)
    _require_names(caller, attention, flows, grids)
    _require_tokens(caller, attention, flows, len(images))
    require_range(caller, "prefix", prefix, 0)
    tokens = next((part.shape[-1] for part in (*attention, *flows.values())), None)
    if tokens is not None:
        grid = require_grid(caller, tokens, prefix, grid)
    elif grid is None:
        grid = _grid_of(images, next(iter(grids.values())))
    found = ({"attention": _from_tokens("heads", torch.stack(attention, dim=1), prefix, grid)}
             if attention else {})
    found |= {name: _from_tokens("flow", flow[:, None, None], prefix, grid)
              for name, flow in flows.items()}
    found |= {name: _from_grid(caller, name, values, images, grid)
              for name, values in grids.items()}
    return Atlas(images, tuple(map(str, captions)), found, prefix if tokens else 0, grid)


def _require_pictures(caller: str, images: Any, captions: Sequence[str]) -> None:
    require_images(caller, images, channels=3)
    if len(captions) != len(images) or len(images) == 0:
        raise LabError(f"{caller}: {len(images)} pictures, {len(captions)} captions; give one "
                       "caption a picture, and at least one picture")


def _require_names(caller: str, attention: Sequence[Any], flows: Mapping[str, Any],
                   grids: Mapping[str, Any]) -> None:
    """Raise LabError unless there is a map at all, and no name is given twice."""
    if not (attention or flows or grids):
        raise LabError(f"{caller}: no maps; give attention=maps of record_attention, "
                       "flows={'rollout': rollout(maps)}, or "
                       "grids={'name': explainer(model, inputs, target)}")
    twice = (flows.keys() & grids.keys()) | ({"attention"} & (flows.keys() | grids.keys()))
    if twice:
        raise LabError(f"{caller}: the name {', '.join(sorted(twice))} is taken; give flows and "
                       "grids names of their own")


def _require_tokens(caller: str, attention: Sequence[Any], flows: Mapping[str, Any],
                    pictures: int) -> None:
    """Raise LabError unless all token maps are square, alike, finite, and of every picture."""
    named = {f"attention of block {block}": part for block, part in enumerate(attention)} | flows
    for name, part in named.items():
        if isinstance(part, dict):
            raise LabError(f"{caller}: {name} is a dict of {', '.join(part)}, not one square map; "
                           "show it as grids, which have no looking patch, or by "
                           "figures.global_tokens")
        heads = ("heads",) if name not in flows else ()
        shape = _shape(part)
        if len(shape) != 3 + len(heads) or shape[0] != pictures or shape[-1] != shape[-2]:
            expected = ", ".join((str(pictures), *heads, "N", "N"))
            raise LabError(f"{caller}: {name} has shape {shape or type(part).__name__}; give "
                           f"({expected}), for {pictures} pictures")
        first = _shape(next(iter(named.values())))
        if shape[-1] != first[-1] or (heads and shape != first):
            raise LabError(f"{caller}: {name} has shape {shape}, the first map {first}; give maps "
                           "of the same heads and tokens, or each stage its own explorer")
        _require_finite(caller, name, part)


def _require_finite(caller: str, name: str, values: Tensor) -> None:
    wrong = (~values.isfinite()).sum().item()
    if wrong:
        raise LabError(f"{caller}: {name} has {wrong} values that are no finite numbers; "
                       "maps.isfinite().all() finds where they come from")


def _grid_of(images: Tensor, values: Any) -> tuple[int, int]:
    """That of a map without tokens; one as fine as pixels is read by at most 16 x 16 patches."""
    shape, size = _shape(values)[-2:], tuple(images.shape[-2:])
    if shape != size:
        return shape
    return _largest_divisor(size[0]), _largest_divisor(size[1])


def _largest_divisor(side: int, most: int = 16) -> int:
    return max(count for count in range(1, most + 1) if side % count == 0)


def _shape(values: Any) -> tuple[int, ...]:
    return tuple(values.shape) if isinstance(values, Tensor) else ()


def _from_tokens(kind: str, weights: Tensor, prefix: int, grid: tuple[int, int]) -> Maps:
    """Weights (P, blocks, heads, N, N) as `Maps`."""
    weights = weights.detach().float().cpu()
    sums_to_one = bool(((weights.sum(-1) - 1).abs() < 1e-2).all())
    share = "fair" if sums_to_one else "mean" if weights.min() >= 0 else ""
    return Maps(kind, weights[..., prefix:].unflatten(-1, grid), weights[..., :prefix], share)


def _from_grid(caller: str, name: str, values: Any, images: Tensor, grid: tuple[int, int]) -> Maps:
    """Maps of whole pictures, (P, h, w), one value a patch or a pixel; LabError on others."""
    size, shape = tuple(images.shape[-2:]), _shape(values)
    fine = shape[1:] == size and size[0] % grid[0] == size[1] % grid[1] == 0
    if shape[:1] != (len(images),) or not (shape[1:] == grid or fine):
        given, expected = shape or type(values).__name__, (len(images), *grid)
        raise LabError(f"{caller}: {name} has shape {given}; give a tensor {expected}, one value a "
                       f"patch, or {(len(images), *size)}, one a pixel")
    _require_finite(caller, name, values)
    values = values.detach().float().cpu()
    return Maps("grid", values[:, None, None, None], values.new_zeros(len(values), 1, 1, 1, 0),
                "mean" if values.min() >= 0 else "")
