"""Attention feature distillation: the student attends to the places the teacher attends to.

Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928, for maps of any
network; for the weights and values of transformers, Wang et al., MiniLM, arXiv 2002.10957. Page:
chapters/distillation/feature_distillation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...components import attention_weights, join_heads, split_heads
from ...errors import LabError, require_grid
from ..model_outputs import ModelOutputs, objective
from .joining import (Layers, Pair, Pairs, align, coarser, joined_maps, require_batch,
                      require_maps, same_grid)


def attention_map(maps: Tensor) -> Tensor:
    """Sum of squares over the channels of maps (B, C, h, w), scaled to length 1: (B, h, w)."""
    require_maps("attention_map", maps)
    return F.normalize(maps.square().sum(dim=1).flatten(1), dim=1).unflatten(1, maps.shape[2:])


def attention_transfer_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Squared distance of the attention maps of maps (B, C, h, w), the mean of the batch: 0 to 2.

    Widths may differ; of two grids, the finer is averaged to the coarser. The authors' code takes
    the mean over places, where we take the sum: then the weight does not depend on the grid. arXiv
    1612.03928.
    """
    require_batch("attention_transfer_loss", student_maps, teacher_maps, 1)
    student, teacher = joined_maps(student_maps, teacher_maps.detach())
    return (attention_map(student) - attention_map(teacher)).square().sum(dim=(1, 2)).mean()


def attention_weights_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of attention weights (B, heads, N, N), the mean over all rows.

    Where the numbers of heads differ, both are averaged over heads first. Raises LabError where
    those of tokens do. arXiv 2002.10957.
    """
    require_batch("attention_weights_loss", student, teacher, 1)
    if student.shape[2:] != teacher.shape[2:]:
        raise LabError(f"attention_weights_loss: weights between {student.shape[-1]} and "
                       f"{teacher.shape[-1]} tokens cannot be compared; image_attention(weights, "
                       "prefix, size) lays both over one grid, as AttentionWeights does")
    teacher = teacher.detach()
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    logarithm = student.clamp_min(torch.finfo(student.dtype).tiny).log()
    return (torch.xlogy(teacher, teacher) - teacher * logarithm).sum(dim=-1).mean()


def value_relations(values: Tensor) -> Tensor:
    """softmax(V V^T / sqrt(head_dim)) of values (B, heads, N, head_dim): (B, heads, N, N).

    Which tokens a head finds alike by what it would hand on of them. MiniLM, arXiv 2002.10957.
    """
    return attention_weights(values, values)


def value_relations_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of `value_relations`, the mean over rows; values (B, heads, N, d).

    Widths of heads may differ. Where numbers of heads do, the values of all heads are joined and
    split into as many as divide both, as in MiniLMv2 (arXiv 2012.15828). Raises LabError where
    numbers of tokens differ. arXiv 2002.10957.
    """
    heads = math.gcd(student.shape[1], teacher.shape[1])
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (split_heads(join_heads(values), 1, heads)[0]
                            for values in (student, teacher))
    return attention_weights_loss(value_relations(student), value_relations(teacher.detach()))


def image_values(values: Tensor, prefix: int, size: tuple[int, int],
                 grid: tuple[int, int] | None = None) -> Tensor:
    """Values of image tokens on a grid of `size`: (B, heads, N, d) -> (B, heads, n, d).

    The first `prefix` tokens are dropped, and the others lie on `grid`, (rows, columns), None for a
    square. A new cell has the mean of its tokens' values.
    """
    grid = require_grid("image_values", values.shape[2], prefix, grid)
    maps = values[:, :, prefix:].flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    return align(maps, size).flatten(2).transpose(1, 2).unflatten(0, values.shape[:2])


def image_attention(weights: Tensor, prefix: int, size: tuple[int, int],
                    grid: tuple[int, int] | None = None) -> Tensor:
    """Attention among image tokens on a grid of `size`: (B, heads, N, N) -> (B, heads, n, n).

    The first `prefix` tokens are dropped, and the others lie on `grid`, (rows, columns), None for a
    square. A new cell attends as its tokens do on average, and receives the attention of all of
    them; rows sum to 1.
    """
    heads, inner = weights.shape[:2], weights[..., prefix:, prefix:]
    grid = require_grid("image_attention", weights.shape[-1], prefix, grid)
    rows = align(inner.flatten(0, 1).unflatten(2, grid), size).flatten(2)    # (B * heads, N, n)
    both = (align(rows.transpose(1, 2).unflatten(2, grid), size)
            .flatten(2).transpose(1, 2))                                     # (B * heads, n, n)
    total = both.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(both.dtype).tiny)
    return (both / total).unflatten(0, heads)


@objective
class AttentionTransfer(Pairs):
    """`attention_transfer_loss` of layers of any two networks; tokens are laid out as maps."""

    student_layer: Layers = -2
    teacher_layer: Layers = -1
    weight: float = 2.0

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: maps of where features are strong."""
        return attention_transfer_loss(student.maps(pair[0]), teacher.maps(pair[1]))


class _Heads(Pairs):
    """Pairs of blocks whose attention is compared head by head, by what the field `what` has.

    Models of the same tokens are compared on all of them, the class token too; others on image
    tokens alone, on one grid, where `joined` brings them.
    """

    student_features = teacher_features = ()
    what, joined = "attention", staticmethod(image_attention)

    def both(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair) -> list[Tensor]:
        """What the pair of layers compares, of the student and of the teacher."""
        models = student, teacher
        found = [getattr(model, self.what)[layer] for model, layer in zip(models, pair)]
        counts = [one.shape[2] for one in found]
        if student.prefix == teacher.prefix and same_grid(student, teacher, *counts):
            return found
        grids = [model.grid(type(self).__name__, count) for model, count in zip(models, counts)]
        return [self.joined(one, model.prefix, coarser(*grids), grid)
                for one, model, grid in zip(found, models, grids)]


@objective
class AttentionWeights(_Heads):
    """`attention_weights_loss` of blocks of two transformers, on the coarser of two grids.

    Models of the same tokens are compared on all of them, the class token too; others on image
    tokens alone. Raises LabError of a model whose weights cannot be read.
    """

    student_attention, teacher_attention = Pairs.student_features, Pairs.teacher_features

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: attention weights."""
        return attention_weights_loss(*self.both(student, teacher, pair))


@objective
class ValueRelations(_Heads):
    """`value_relations_loss` of blocks of two transformers, on the coarser of two grids.

    MiniLM adds it to `AttentionWeights` of the last blocks, with equal weights. Raises LabError of
    a model whose values cannot be read.
    """

    student_values, teacher_values = Pairs.student_features, Pairs.teacher_features
    what, joined = "values", staticmethod(image_values)

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: likenesses of the values of tokens, head by head."""
        return value_relations_loss(*self.both(student, teacher, pair))
