"""Attention distance: how far away, in patches, is what each head attends to.

Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929, figure 7 (there in pixels);
Raghu et al., Do Vision Transformers See Like Convolutional Neural Networks?, arXiv 2108.08810. Used
in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import LabError, plain_numbers, require_grid
from .rollout import require_square_maps


@plain_numbers
def attention_distance(maps: Sequence[Tensor], prefix: int = 1,
                       grid: tuple[int, int] | None = None) -> Tensor:
    """Mean distance, in patches, between query patches and those they attend to: (blocks, heads).

    The mean is weighted by attention. `maps` holds (batch, heads, N, N) per block, as
    `record_attention` gives them. The first `prefix` tokens, the class token among them, are left
    out and rows divided by what remains of their sum; the mean is over patches and pictures.
    Distances are Euclidean between the centres of patches on a `grid` of (rows, columns), None for
    a square; times the patch size, they are pixels. Raises LabError on maps that are no such list,
    and on a grid that tokens do not form.
    """
    require_square_maps("attention_distance", maps)
    if len({block_map.shape[1] for block_map in maps}) > 1:
        heads = ", ".join(str(block_map.shape[1]) for block_map in maps)
        raise LabError(f"attention_distance: blocks have {heads} heads; give blocks of one number")
    rows, columns = require_grid("attention_distance", maps[0].shape[-1], prefix, grid)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
    distances = (places[:, None] - places[None]).norm(dim=-1).to(maps[0].device)
    return torch.stack([_of_block(block_map.float()[..., prefix:, prefix:], distances)
                        for block_map in maps])


def _of_block(weights: Tensor, distances: Tensor) -> Tensor:
    """Weights (B, heads, patches, patches) and distances (patches, patches) -> (heads,)."""
    sums = weights.sum(dim=-1).clamp_min(1e-12)        # a patch may attend to no patch at all
    return ((weights * distances).sum(dim=-1) / sums).mean(dim=(0, 2))
