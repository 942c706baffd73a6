"""Tokens (batch, N, dim), row by row on a grid, and maps (batch, dim, rows, columns): the same
numbers.
"""

from __future__ import annotations

from torch import Tensor

Grid = tuple[int, int]      # rows and columns of image tokens


def to_tokens(maps: Tensor) -> tuple[Tensor, Grid]:
    """Maps (batch, dim, rows, columns) -> tokens (batch, rows * columns, dim) and their grid."""
    return maps.flatten(2).transpose(1, 2), (maps.shape[2], maps.shape[3])


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens (batch, rows * columns, dim) on `grid` -> maps (batch, dim, rows, columns), without a
    copy.
    """
    return tokens.transpose(1, 2).unflatten(2, grid)
