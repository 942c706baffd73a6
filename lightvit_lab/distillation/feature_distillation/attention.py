"""Attention feature distillation: the student looks where the teacher looks.

Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928, for maps of any
network; for the weights of transformers, Wang et al., MiniLM, arXiv 2002.10957. Derived in
`chapters/distillation/feature_distillation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, plain_numbers, require_grid
from ...training import Batch
from .joining import FeaturePairs, Layers, Pairs, _require_maps, alike, align, joined_maps, require_batch
from ..model_outputs import ModelOutputs


def attention_map(maps: Tensor) -> Tensor:
    """Where the channels of maps (B, C, h, w) are strong: the sum of their squares, scaled to
    length 1; (B, h, w).
    """
    _require_maps("attention_map", maps)
    return F.normalize(maps.square().sum(dim=1).flatten(1), dim=1).unflatten(1, maps.shape[2:])


def attention_transfer_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Squared distance of the attention maps of two maps (B, C, h, w), mean of the batch: between 0
    and 2.

    Widths may differ; of two grids, the finer is averaged to the coarser. The authors' code takes
    the mean over places, where we take the sum: then the weight does not depend on the grid. arXiv
    1612.03928.
    """
    for maps in (student_maps, teacher_maps):
        _require_maps("attention_transfer_loss", maps)
    require_batch("attention_transfer_loss", student_maps, teacher_maps, 1)
    student, teacher = joined_maps(student_maps, teacher_maps.detach())
    return (attention_map(student) - attention_map(teacher)).square().sum(dim=(1, 2)).mean()


def attention_weights_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of attention weights (B, heads, N, N), mean over batch, heads and
    rows.

    Where the numbers of heads differ, both are averaged over heads first. Raises LabError where
    those of tokens do. arXiv 2002.10957.
    """
    caller = "attention_weights_loss"
    require_batch(caller, student, teacher, 1)
    if student.shape[2:] != teacher.shape[2:]:
        raise LabError(f"{caller}: weights between {student.shape[-1]} and {teacher.shape[-1]} tokens cannot be "
                       "compared; image_attention(weights, prefix, size) lays both over one grid, as the "
                       "objective AttentionWeights does")
    teacher = teacher.detach()
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    logarithm = student.clamp_min(torch.finfo(student.dtype).tiny).log()
    return (torch.xlogy(teacher, teacher) - teacher * logarithm).sum(dim=-1).mean()


def image_attention(weights: Tensor, prefix: int, size: tuple[int, int],
                    grid: tuple[int, int] | None = None) -> Tensor:
    """Attention among image tokens alone, on a grid of `size`: (B, heads, N, N) -> (B, heads, n,
    n), rows sum to 1.

    The first `prefix` tokens are left out, and the others lie on `grid`, (rows, columns), None for
    a square. Cells of the new grid look where their tokens look on average, and are looked at as
    much as their tokens are.
    """
    heads, inner = weights.shape[:2], weights[..., prefix:, prefix:]
    grid = require_grid("image_attention", weights.shape[-1], prefix, grid)
    # (B * heads, N, n)
    rows = align(inner.flatten(0, 1).unflatten(2, grid), size).flatten(2)
    # (B * heads, n, n)
    both = align(rows.transpose(1, 2).unflatten(2, grid), size).flatten(2).transpose(1, 2)
    total = both.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(both.dtype).tiny)
    return (both / total).unflatten(0, heads)


@plain_numbers
@dataclass(frozen=True)
class AttentionTransfer(FeaturePairs):
    """`attention_transfer_loss` of layers of any two networks: image tokens are laid out as maps."""

    student_layer: Layers = -2
    teacher_layer: Layers = -1
    weight: float = 2.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return sum(attention_transfer_loss(student.maps(one), teacher.maps(other)) for one, other in self.pairs
                   ) / len(self.pairs)


@dataclass(frozen=True)
class AttentionWeights(Pairs):
    """`attention_weights_loss` of blocks of two transformers. Raises LabError of a model whose
    weights cannot be read.

    With the same tokens on both sides all are compared, the class token too; else image tokens
    alone, on one grid.
    """

    @property
    def student_attention(self) -> tuple[int, ...]:
        """Blocks of the student whose attention is compared."""
        return tuple(one for one, _ in self.pairs)

    @property
    def teacher_attention(self) -> tuple[int, ...]:
        """Blocks of the teacher whose attention is compared."""
        return tuple(other for _, other in self.pairs)

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return sum(attention_weights_loss(*_joined(student, teacher, pair)) for pair in self.pairs) / len(self.pairs)


def _joined(student: ModelOutputs, teacher: ModelOutputs, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
    shown, taught = student.attention[pair[0]], teacher.attention[pair[1]]
    patches = shown.shape[-1] - student.prefix, taught.shape[-1] - teacher.prefix
    if student.prefix == teacher.prefix and alike(student, teacher, *patches):
        return shown, taught
    grids = [seen.grid("AttentionWeights", weights.shape[-1]) for weights, seen in ((shown, student), (taught, teacher))]
    size = tuple(min(sides) for sides in zip(*grids))
    return tuple(image_attention(weights, seen.prefix, size, grid)
                 for weights, seen, grid in ((shown, student, grids[0]), (taught, teacher, grids[1])))
