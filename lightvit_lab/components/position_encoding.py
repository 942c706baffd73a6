"""How tokens learn where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import both_sides


def relative_position_index(size: int | tuple[int, int]) -> Tensor:
    """For each pair of places in a window, the row of the bias table that belongs to their offset.

    `size` is (rows, columns), or one number for both; (area * area,), of a table of (2 * rows - 1)
    * (2 * columns - 1).
    """
    rows, columns = both_sides(size)
    row, column = (place.flatten() for place in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    down, right = row[:, None] - row, column[:, None] - column
    return ((down + rows - 1) * (2 * columns - 1) + right + columns - 1).flatten()
