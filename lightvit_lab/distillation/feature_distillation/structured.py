"""Structured feature distillation: how the teacher's features relate to each other.

No widths have to agree, so nothing is trained along. Page:
chapters/distillation/feature_distillation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, plain_numbers, require_range
from ..model_outputs import ModelOutputs, objective
from .joining import Layers, Pair, Pairs, joined_tokens, require_batch


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the similarities of the batch's pictures; features (B, ...).

    The similarity is the inner product of all features of two pictures; those of one picture are
    scaled to length 1. Tung and Mori, Similarity-Preserving Knowledge Distillation, arXiv
    1907.09682. Raises LabError of one picture.
    """
    require_batch("similarity_loss", student, teacher, 2)
    return (_similarities(student) - _similarities(teacher.detach())).square().mean()


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def relational_loss(student: Tensor, teacher: Tensor, distance: float = 1.0,
                    angle: float = 2.0) -> Tensor:
    """Huber loss of the distances between pictures, and of their angles, in embeddings (B, D).

    Distances are divided by their mean. Both kinds are averaged over all pairs, and all triples, of
    different pictures, and weighted by `distance` and `angle`; widths may differ. Park et al.,
    Relational Knowledge Distillation, arXiv 1904.05068. Raises LabError of fewer than three
    pictures.
    """
    require_batch("relational_loss", student, teacher, 3)
    student, teacher = student.flatten(1), teacher.detach().flatten(1)
    other = ~torch.eye(len(student), dtype=torch.bool, device=student.device)    # i is not j
    triples = other[:, :, None] & other[None] & other[:, None]    # of i, j, k no two are one
    loss = distance * F.smooth_l1_loss(_distances(student, other), _distances(teacher, other))
    return loss + angle * F.smooth_l1_loss(_cosines(student)[triples], _cosines(teacher)[triples])


def _distances(features: Tensor, other: Tensor) -> Tensor:
    """Of all pairs (i, j), i not j, over their mean."""
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")[other]
    return distances / distances.mean().clamp_min(1e-12)


def _cosines(features: Tensor) -> Tensor:
    """Cosine of the angle at j between the ways to i and to k, at [i, j, k]."""
    ways = F.normalize(features[:, None] - features[None], dim=-1)    # (B, B, D): from j to i
    return torch.einsum("ijd,kjd->ijk", ways, ways)


@plain_numbers
def manifold_loss(student_tokens: Tensor, teacher_tokens: Tensor, samples: int = 192, *,
                  intra: float = 1.0, inter: float = 1.0, sampled: float = 1.0,
                  generator: torch.Generator | None = None) -> Tensor:
    """Squared differences of the cosines between tokens (B, N, D) of student and teacher.

    `intra` weighs tokens within a picture, `inter` tokens at the same place of all pictures,
    `sampled` as many as `samples` tokens drawn from the whole batch. Hao et al., Learning Efficient
    Vision Transformers via Fine-Grained Manifold Distillation, arXiv 2107.01378. `generator`, on
    the CPU, draws; None takes torch's own.
    """
    require_range("manifold_loss", "samples", samples, 2)
    require_batch("manifold_loss", student_tokens, teacher_tokens, 1 if inter == 0 else 2)
    if student_tokens.shape[:2] != teacher_tokens.shape[:2]:
        raise LabError(f"manifold_loss: the student has {student_tokens.shape[1]} tokens and the "
                       f"teacher {teacher_tokens.shape[1]}; align(maps, size) joins them")
    both = [F.normalize(tokens, dim=-1) for tokens in (student_tokens, teacher_tokens.detach())]
    order = torch.randperm(student_tokens.shape[:2].numel(), generator=generator)
    drawn = order[:samples].to(student_tokens.device)
    return (intra * _difference(*both)
            + inter * _difference(*(tokens.transpose(0, 1) for tokens in both))
            + sampled * _difference(*(tokens.flatten(0, 1)[drawn] for tokens in both)))


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines within each (..., count, D) of unit vectors."""
    return (student @ student.mT - teacher @ teacher.mT).square().mean()


@objective
class Similarity(Pairs):
    """`similarity_loss` of the image tokens, or maps, of layers of any two networks.

    Of several processes, each compares the pictures of its own slice of the batch.
    """

    weight: float = 300.0

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: likenesses between the pictures of a batch."""
        return similarity_loss(student.tokens(pair[0]), teacher.tokens(pair[1]))


@objective
class Relational(Pairs):
    """`relational_loss` of the mean image token, or the mean of the map, of layers."""

    distance: float = 1.0
    angle: float = 2.0

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: distances and angles between pictures."""
        means = student.tokens(pair[0]).mean(dim=1), teacher.tokens(pair[1]).mean(dim=1)
        return relational_loss(*means, self.distance, self.angle)


@objective
class Manifold(Pairs):
    """`manifold_loss` of image tokens, on the coarser grid; `seed` and step decide draws."""

    draws: ClassVar[int] = 2         # the purpose of its generator, unlike others of a run

    student_layer: Layers = -2
    weight: float = 4.0
    samples: int = 192
    intra: float = 1.0
    inter: float = 1.0
    sampled: float = 1.0
    seed: int = 0

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair,
                _part: None, generator: torch.Generator) -> Tensor:
        """The loss of one pair of layers: likenesses between tokens, sampled over the batch."""
        return manifold_loss(*joined_tokens(student, teacher, pair), self.samples, intra=self.intra,
                             inter=self.inter, sampled=self.sampled, generator=generator)
