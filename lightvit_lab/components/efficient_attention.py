"""Attention to fewer pairs of tokens than all."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import both_sides, plain_numbers
from .attention import attend, join_heads, split_heads
from .maps import Grid, sort_into_windows
from .position_encoding import RelativePositionBias


@plain_numbers
class WindowAttention(RelativePositionBias):
    """Attention in windows of `window_size` (rows, columns) tokens, with a bias for each offset.

    (batch, N, dim) -> the same; at the right and the bottom windows may be smaller. Liu et al.,
    Swin Transformer, arXiv 2103.14030, without the shift: windows do not learn of each other.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int | tuple[int, int] = 4,
                 fused: bool = True, qkv_bias: bool = True):
        super().__init__(num_heads, both_sides(window_size))
        self.fused = fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        windows = sort_into_windows(grid, self.window_size, device=tokens.device)
        qkv = windows.cut(self.qkv(tokens.index_select(1, windows.order)))
        bias = self.position_bias(windows, tokens.shape[0])
        mixed = attend(*split_heads(qkv, 3, self.num_heads), bias, fused=self.fused)
        return self.proj(windows.join(join_heads(mixed))).index_select(1, windows.inverse)
