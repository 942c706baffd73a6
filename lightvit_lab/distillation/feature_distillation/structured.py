"""Structured feature distillation: not what the teacher's features are, but how they relate to each
other.

No widths have to agree, so nothing is trained along. Derived in
`chapters/distillation/feature_distillation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, plain_numbers, require_range
from ...training import Batch
from ...training.randomness import generator_for
from .joining import FeaturePairs, Layers, joined_tokens, require_batch
from ..model_outputs import ModelOutputs

_SAMPLES = 2   # what a generator is for, beside training.randomness' EPOCH and STEP


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of how alike the pictures of the batch are to student and to teacher;
    any (B, ...).

    Alike is the inner product of all features of two pictures; the products of a picture are scaled
    to length 1. Tung and Mori, Similarity-Preserving Knowledge Distillation, arXiv 1907.09682.
    Raises LabError of one picture.
    """
    require_batch("similarity_loss", student, teacher, 2)
    return (_similarities(student) - _similarities(teacher.detach())).square().mean()


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def relational_loss(student: Tensor, teacher: Tensor, distance: float = 1.0,
                    angle: float = 2.0) -> Tensor:
    """How far pictures lie from each other, and the angles they form, in two embeddings (B, D),
    widths as they are.

    Distances are divided by their mean; the Huber loss of both kinds is averaged over all pairs,
    and all triples, of different pictures, and weighed by `distance` and `angle`. Park et al.,
    Relational Knowledge Distillation, arXiv 1904.05068. Raises LabError of fewer than three
    pictures.
    """
    require_batch("relational_loss", student, teacher, 3)
    student, teacher, count = student.flatten(1), teacher.detach().flatten(1), len(student)
    # i is not j
    other = ~torch.eye(count, dtype=torch.bool, device=student.device)
    # of i, j, k no two are one
    triples = other[:, :, None] & other[None] & other[:, None]
    loss = distance * F.smooth_l1_loss(_distances(student, other), _distances(teacher, other))
    return loss + angle * F.smooth_l1_loss(_cosines(student)[triples], _cosines(teacher)[triples])


def _distances(features: Tensor, other: Tensor) -> Tensor:
    """Of all pairs (i, j), i not j, over their mean."""
    found = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")[other]
    return found / found.mean().clamp_min(1e-12)


def _cosines(features: Tensor) -> Tensor:
    """Cosine of the angle at j between the ways to i and to k, at [i, j, k]."""
    # (B, B, D): from j to i
    ways = F.normalize(features[:, None] - features[None], dim=-1)
    return torch.einsum("ijd,kjd->ijk", ways, ways)


@plain_numbers
def manifold_loss(student_tokens: Tensor, teacher_tokens: Tensor, samples: int = 192, *,
                  intra: float = 1.0, inter: float = 1.0, sampled: float = 1.0,
                  generator: torch.Generator | None = None) -> Tensor:
    """How alike tokens (B, N, D) are to each other, by cosine, to student and teacher: three
    squared differences.

    `intra` weighs tokens within a picture, `inter` tokens at the same place of all pictures,
    `sampled` as many as `samples` tokens drawn from the whole batch. Hao et al., Learning Efficient
    Vision Transformers via Fine-Grained Manifold Distillation, arXiv 2107.01378. `generator`, on
    the CPU, draws; None takes torch's own.
    """
    require_range("manifold_loss", "samples", samples, 2)
    require_batch("manifold_loss", student_tokens, teacher_tokens, 1 if inter == 0 else 2)
    if student_tokens.shape[:2] != teacher_tokens.shape[:2]:
        raise LabError(f"manifold_loss: the student shows {student_tokens.shape[1]} tokens a picture and the teacher "
                       f"{teacher_tokens.shape[1]}; align(maps, size) lays both over one grid, as Manifold does")
    both = [F.normalize(tokens, dim=-1) for tokens in (student_tokens, teacher_tokens.detach())]
    drawn = torch.randperm(both[0].shape[0] * both[0].shape[1], generator=generator)[:samples].to(both[0].device)
    return (intra * _difference(*both)
            + inter * _difference(*(tokens.transpose(0, 1) for tokens in both))
            + sampled * _difference(*(tokens.flatten(0, 1)[drawn] for tokens in both)))


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines within each (..., count, D) of unit vectors."""
    return (student @ student.transpose(-2, -1) - teacher @ teacher.transpose(-2, -1)).square().mean()


@plain_numbers
@dataclass(frozen=True)
class Similarity(FeaturePairs):
    """`similarity_loss` of the image tokens, or maps, of layers of any two networks; a process sees
    its slice.
    """

    weight: float = 300.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return sum(similarity_loss(student.tokens(one), teacher.tokens(other)) for one, other in self.pairs
                   ) / len(self.pairs)


@plain_numbers
@dataclass(frozen=True)
class Relational(FeaturePairs):
    """`relational_loss` of the mean image token, or the mean of the map, of layers of any two
    networks.
    """

    distance: float = 1.0
    angle: float = 2.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return sum(relational_loss(student.tokens(one).mean(dim=1), teacher.tokens(other).mean(dim=1), self.distance,
                                   self.angle) for one, other in self.pairs) / len(self.pairs)


@plain_numbers
@dataclass(frozen=True)
class Manifold(FeaturePairs):
    """`manifold_loss` of image tokens, on the coarser grid of both; what is drawn follows from the
    step and `seed`.
    """

    student_layer: Layers = -2
    weight: float = 4.0
    samples: int = 192
    intra: float = 1.0
    inter: float = 1.0
    sampled: float = 1.0
    seed: int = 0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        generator = generator_for(self.seed, _SAMPLES, batch.step)
        terms = (manifold_loss(*joined_tokens(student, teacher, pair), self.samples, intra=self.intra, inter=self.inter,
                               sampled=self.sampled, generator=generator) for pair in self.pairs)
        return sum(terms) / len(self.pairs)
