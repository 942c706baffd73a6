"""Attention rollout: from the attention of each block to what flows from the picture's tokens to
the last ones.

Abnar and Zuidema, Quantifying Attention Flow in Transformers, arXiv 2005.00928. Rows are normalised
so that they sum to 1, as in the text of the paper; a common script divides row i's entries by the
sums of rows j instead. Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import LabError, plain_numbers, require_choice, require_range
from ..runtime.running import cast

FUSIONS = ("mean", "max", "min")


@plain_numbers
def rollout(maps: Sequence[Tensor], fusion: str = "mean", discard_ratio: float = 0.0,
            head_weights: Sequence[float] | Tensor | None = None) -> Tensor:
    """Attention multiplied through all blocks, (batch, N, N): row i says of which first tokens the
    last token i is made.

    `maps` holds (batch, heads, N, N) per block, first block first, as `record_attention` gives
    them. Heads are fused by their mean, max or min; `head_weights`, (heads,) or (blocks, heads),
    weigh the mean. The lowest `discard_ratio` of each fused map is set to zero (not the entry from
    the class token to itself). Then the identity is added for the residual path and each row
    divided by its sum. Rows of the result, in float32, sum to 1. Raises LabError on anything else.
    """
    require_square_maps("rollout", maps)
    require_choice("rollout", "fusion", fusion, FUSIONS)
    require_range("rollout", "discard_ratio", discard_ratio, 0, 1)
    weights = _head_weights(head_weights, fusion, maps)
    flow = identity = torch.eye(maps[0].shape[-1], device=maps[0].device)
    with cast("float32", flow.device):
        for block, block_map in enumerate(maps):
            fused = _fuse(block_map.float(), fusion, None if weights is None else weights[block])
            mixed = _discard_lowest(fused, discard_ratio) + identity
            flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    return flow


def _fuse(block_map: Tensor, fusion: str, weights: Tensor | None) -> Tensor:
    """(B, heads, N, N) -> (B, N, N)."""
    if weights is not None:
        return torch.einsum("h,bhij->bij", (weights / weights.sum()).to(block_map), block_map)
    return {"mean": block_map.mean, "max": block_map.amax, "min": block_map.amin}[fusion](dim=1)


def _discard_lowest(fused: Tensor, ratio: float) -> Tensor:
    """`fused` (B, N, N) with the lowest `ratio` of each map's entries set to 0, but not entry (0,
    0).
    """
    flat = fused.flatten(1)
    lowest = flat.topk(int(flat.shape[1] * ratio), largest=False).indices
    kept = flat.scatter(1, lowest, 0.0)
    kept[:, 0] = flat[:, 0]
    return kept.view_as(fused)


def _head_weights(weights: Sequence[float] | Tensor | None, fusion: str,
                  maps: Sequence[Tensor]) -> Tensor | None:
    if weights is None:
        return None
    weights, shape = torch.as_tensor(weights, dtype=torch.float32), (len(maps), maps[0].shape[1])
    if fusion != "mean":
        raise LabError(f'rollout: head_weights weigh a mean, but fusion={fusion!r}; give fusion="mean"')
    if tuple(weights.shape) not in (shape, shape[1:]):
        raise LabError(f"rollout: head_weights have shape {tuple(weights.shape)}; give {shape[1:]}, one weight a head, or "
                       f"{shape}, for each block its own")
    if (weights < 0).any() or (weights.sum(-1) <= 0).any():
        raise LabError("rollout: head_weights are negative, or all zero in a block; give shares of at least 0 with a "
                       "positive sum")
    return weights.expand(shape)


def require_square_maps(caller: str, maps: Sequence[Tensor]) -> None:
    """Raise LabError unless `maps` holds square maps (batch, heads, N, N) of the same tokens for
    every block.
    """
    if not isinstance(maps, (list, tuple)) or not maps:
        raise LabError(f"{caller}: maps={type(maps).__name__} of {len(maps) if hasattr(maps, '__len__') else 'no'} blocks; "
                       "give the list that record_attention filled")
    for block, block_map in enumerate(maps):
        if isinstance(block_map, dict):
            raise LabError(f"{caller}: block {block} has the maps {', '.join(block_map)} instead of one square map: its "
                           "tokens look in windows and through global tokens, and there is no one matrix to multiply; "
                           "read them apart, as the page on LightViT does")
        if not isinstance(block_map, Tensor) or block_map.ndim != 4 or block_map.shape[-2] != block_map.shape[-1]:
            shape = tuple(getattr(block_map, "shape", ()))
            raise LabError(f"{caller}: the map of block {block} has shape {shape}; give (batch, heads, N, N)")
        if block_map.shape[::3] != maps[0].shape[::3]:
            raise LabError(f"{caller}: block 0 has maps of {tuple(maps[0].shape)}, block {block} of {tuple(block_map.shape)}; "
                           "maps of different sizes cannot be multiplied: stages that merge tokens, or models that drop "
                           "them, have no plain rollout")
