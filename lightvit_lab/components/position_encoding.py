"""How tokens learn where they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import both_sides
from .maps import Windows


def relative_position_index(size: int | tuple[int, int]) -> Tensor:
    """For each pair of places in a window, the row of the bias table that belongs to their offset.

    `size` is (rows, columns), or one number for both. The result is (area * area,), for a table of
    (2 * rows - 1) * (2 * columns - 1) rows.
    """
    rows, columns = both_sides(size)
    row, column = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
    down, right = row[:, None] - row, column[:, None] - column
    return ((down + rows - 1) * (2 * columns - 1) + right + columns - 1).flatten()


class RelativePositionBias(nn.Module):
    """A learned bias for each offset of two places in a window: a base of attention in windows.

    `in_state`: the index belongs to the state dict, as in the code that LightViT's authors publish.
    """

    def __init__(self, num_heads: int, window_size: int | tuple[int, int], in_state: bool = False):
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        index, (rows, columns) = relative_position_index(window_size), both_sides(window_size)
        table = torch.zeros((2 * rows - 1) * (2 * columns - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", index, persistent=in_state)

    def no_weight_decay(self) -> set[str]:
        """The learned table, which no optimizer shall treat as a matrix."""
        return {"relative_position_bias_table"}

    def look_up_bias(self, area: int) -> Tensor:
        """The table's entry for each pair of places, (1, heads, area, area)."""
        bias = self.relative_position_bias_table.T.index_select(1, self.relative_position_index)
        return bias.view(1, self.num_heads, area, area)

    def position_bias(self, windows: Windows, batch: int) -> Tensor:
        """What to add to scores, (1 or B * count, heads, area, area); -inf for empty places."""
        bias = self.look_up_bias(windows.area)
        return (bias + windows.mask(bias)).repeat(batch, 1, 1, 1) if windows.padded else bias
