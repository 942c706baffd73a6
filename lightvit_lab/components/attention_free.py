"""Token mixing without attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import plain_numbers
from .maps import Grid, to_map, to_tokens


@plain_numbers
class Pooling(nn.Module):
    """The mean of a token's neighbourhood, minus the token: no weights at all.

    (batch, N, dim) in and out. Places beyond the edge do not count. Yu et al., MetaFormer, arXiv
    2111.11418.
    """

    def __init__(self, size: int = 3):
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        pad = self.size // 2
        maps = F.avg_pool2d(to_map(tokens, grid), self.size, 1, pad, count_include_pad=False)
        return to_tokens(maps)[0] - tokens
