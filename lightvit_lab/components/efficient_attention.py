"""Attention to fewer pairs of tokens than all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import both_sides, plain_numbers
from .attention import attend, join_heads, split_heads
from .maps import Grid
from .position_encoding import relative_position_index
from .windows import sort_into_windows


@plain_numbers
class WindowAttention(nn.Module):
    """Attention inside windows of `window_size` (rows, columns) tokens, with a learned bias for
    each offset.

    (batch, N, dim) -> the same; at the right and the bottom windows may be smaller. Liu et al.,
    Swin Transformer, arXiv 2103.14030, without the shift: windows do not learn of each other.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int | tuple[int, int] = 4,
                 fused: bool = True, qkv_bias: bool = True):
        super().__init__()
        self.num_heads, self.window_size, self.fused = num_heads, both_sides(window_size), fused
        rows, columns = self.window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * rows - 1) * (2 * columns - 1), num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The learned table, which no optimizer shall treat as a matrix."""
        return {"relative_position_bias_table"}

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        windows = sort_into_windows(grid, self.window_size, device=tokens.device)
        bias = self.relative_position_bias_table.T.index_select(1, self.relative_position_index)
        bias = bias.view(1, self.num_heads, windows.area, windows.area)
        if windows.padded:
            bias = (bias + windows.mask(bias)).repeat(tokens.shape[0], 1, 1, 1)
        heads = split_heads(windows.cut(self.qkv(tokens.index_select(1, windows.order))), 3, self.num_heads)
        mixed = windows.join(join_heads(attend(*heads, bias, fused=self.fused)))
        return self.proj(mixed).index_select(1, windows.inverse)
