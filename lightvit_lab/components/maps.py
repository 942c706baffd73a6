"""Tokens (batch, N, dim), row by row on a grid; the same as maps, and sorted into windows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import both_sides

Grid = tuple[int, int]      # rows and columns of image tokens


def to_tokens(maps: Tensor) -> tuple[Tensor, Grid]:
    """Maps (batch, dim, rows, columns) -> tokens (batch, rows * columns, dim) and their grid."""
    return maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3])


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens (batch, rows * columns, dim) -> maps (batch, dim, rows, columns), without a copy."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class Windows(NamedTuple):
    """How the image tokens of a stage are sorted into `count` windows of `area` places each.

    A map that is no multiple of the window leaves places empty, at the right and at the bottom.
    They exist only during attention, and with `mask` no token attends to them.
    """

    order: Tensor     # (T + N,) from reading order to window order; the global tokens stay in front
    inverse: Tensor   # (T + N,) and back
    slots: Tensor     # (N,) the place of each image token among count * area
    count: int
    area: int
    # whether some places are empty; no property, which torch 2.5 cannot compile here
    padded: bool

    def cut(self, tokens: Tensor, filling: Tensor | None = None) -> Tensor:
        """Tokens in window order (B, N, C) -> (B * count, area, C); empty places hold `filling`.

        `filling` is (C,), by default zeros.
        """
        if self.padded:
            filling = tokens.new_zeros(tokens.shape[-1]) if filling is None else filling
            places = filling.expand(tokens.shape[0], self.count * self.area, -1)
            tokens = places.index_copy(1, self.slots, tokens)
        return tokens.reshape(-1, self.area, tokens.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """The reverse of `cut`: (B * count, area, C) -> (B, N, C)."""
        tokens = windows.reshape(-1, self.count * self.area, windows.shape[-1])
        return tokens.index_select(1, self.slots) if self.padded else tokens

    def mask(self, bias: Tensor) -> Tensor:
        """What to add to scores: -inf for empty places, 0 for tokens, (count, 1, 1, area)."""
        places = bias.new_full((self.count * self.area,), -torch.inf)
        return places.index_fill(0, self.slots, 0.0).view(self.count, 1, 1, self.area)


def sort_into_windows(grid: Grid, size: int | tuple[int, int], num_tokens: int = 0,
                      device: torch.device | str | None = None) -> Windows:
    """Windows of `size` (rows, columns) tokens, or one number for both, on a map of `grid`.

    `num_tokens` global tokens stand in front of the image tokens.
    """
    (height, width), (rows, columns) = grid, both_sides(size)
    down, across = -(-height // rows), -(-width // columns)
    row, column = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    window = row // rows * across + column // columns
    slots, order = ((window * rows + row % rows) * columns + column % columns).flatten().sort()
    order = torch.cat([torch.arange(num_tokens, device=device), num_tokens + order])
    count, area = down * across, rows * columns
    return Windows(order, order.argsort(), slots, count, area, height * width < count * area)
