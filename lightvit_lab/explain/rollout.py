"""Attention rollout: through all blocks, from the picture's tokens to the last ones.

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

FUSIONS = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


@plain_numbers
def rollout(maps: Sequence[Tensor], fusion: str = "mean", discard_ratio: float = 0.0) -> Tensor:
    """Attention multiplied through all blocks, (batch, N, N), float32; rows sum to 1.

    Row i says how much of each input token is in output token i. `maps` holds (batch, heads, N, N)
    per block, first block first, as `record_attention` gives them. Heads are fused by their mean,
    max or min. The lowest `discard_ratio` of each fused map is set to zero (not the entry from the
    class token to itself). Then the identity is added for the residual path and each row divided by
    its sum. Raises LabError on anything else.
    """
    require_square_maps("rollout", maps)
    require_choice("rollout", "fusion", fusion, FUSIONS)
    require_range("rollout", "discard_ratio", discard_ratio, 0, 1)
    flow = identity = torch.eye(maps[0].shape[-1], device=maps[0].device)
    with cast("float32", flow.device):
        for block_map in maps:
            fused = FUSIONS[fusion](block_map.float(), dim=1)
            mixed = _discard_lowest(fused, discard_ratio) + identity
            flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    return flow


def _discard_lowest(fused: Tensor, ratio: float) -> Tensor:
    """`fused` (B, N, N) with the lowest `ratio` of each map set to 0, but not its entry (0, 0)."""
    flat = fused.flatten(1)
    lowest = flat.topk(int(flat.shape[1] * ratio), largest=False).indices
    thinned = flat.scatter(1, lowest, 0.0)
    thinned[:, 0] = flat[:, 0]
    return thinned.view_as(fused)


def require_square_maps(caller: str, maps: Sequence[Tensor]) -> None:
    """Raise LabError unless `maps` holds (batch, heads, N, N) per block, all of the same N."""
    if not isinstance(maps, (list, tuple)) or not maps:
        raise LabError(f"{caller}: maps is an empty list or a {type(maps).__name__}; "
                       "give the list that record_attention filled")
    for block, block_map in enumerate(maps):
        if isinstance(block_map, dict):
            raise LabError(f"{caller}: block {block} has the maps {', '.join(block_map)} instead "
                           "of one square map; read each by itself, as the page on LightViT does")
        shape = tuple(getattr(block_map, "shape", ()))
        if not isinstance(block_map, Tensor) or len(shape) != 4 or shape[-2] != shape[-1]:
            raise LabError(f"{caller}: the map of block {block} has shape {shape}; "
                           "give (batch, heads, N, N)")
        if shape[::3] != maps[0].shape[::3]:
            raise LabError(f"{caller}: block 0 has maps of {tuple(maps[0].shape)}, block {block} "
                           f"of {shape}; maps of different sizes cannot be multiplied; give blocks "
                           "of as many tokens")
