"""What joins the features of two models before a comparison: pairs of layers, a common grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, require_range, require_whole
from ...training import Batch
from ...training.randomness import generator_for
from ..model_outputs import ModelOutputs, objective

Pair = tuple[int, int]           # a layer of the student, and one of the teacher
Layers = int | tuple[int, ...]   # 0-based blocks or stages, also from the end: -1 is the last


@objective
class Pairs:
    """Which layers of student and teacher belong together: one of each, or tuples of equal length.

    A subclass compares one pair: `compare(student, teacher, pair, part, generator)`. `part` comes
    from its `build`, if it has one; `generator` draws if the class names its purpose (`draws`) and
    has a `seed`. Several pairs count by their mean. Default weights are ours: from a trained CNN on
    shapes they make a term's gradient a fifth to a half of the labels', but for `DeepGeneration`,
    whose generator has to learn first. Raises LabError on layers that are no whole numbers or make
    no pairs, and on a negative weight.
    """

    draws: ClassVar[int | None] = None

    student_layer: Layers = -1
    teacher_layer: Layers = -1
    weight: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_range(name, "weight", self.weight, 0)
        for field in ("student_layer", "teacher_layer"):
            given = getattr(self, field)
            layers = tuple(require_whole(name, field, layer) for layer in _tuple(given))
            several = isinstance(given, (tuple, list))
            object.__setattr__(self, field, layers if several else layers[0])
        if not 0 < len(_tuple(self.student_layer)) == len(_tuple(self.teacher_layer)):
            raise LabError(f"{name}: student_layer={self.student_layer!r} and teacher_layer="
                           f"{self.teacher_layer!r} make no pairs; give as many layers of each")

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch,
                 parts: Sequence[nn.Module] | None = None) -> Tensor:
        """The mean of `compare` over all pairs."""
        generator = None if self.draws is None else generator_for(self.seed, self.draws, batch.step)
        parts = parts or [None] * len(self.pairs)
        terms = [self.compare(student, teacher, pair, part, generator)
                 for pair, part in zip(self.pairs, parts)]
        return sum(terms) / len(terms)

    @property
    def pairs(self) -> list[Pair]:
        """(layer of the student, layer of the teacher), in order."""
        return list(zip(_tuple(self.student_layer), _tuple(self.teacher_layer)))

    @property
    def student_features(self) -> tuple[int, ...]:
        """Layers of the student whose outputs are compared."""
        return _tuple(self.student_layer)

    @property
    def teacher_features(self) -> tuple[int, ...]:
        """Layers of the teacher whose outputs are compared."""
        return _tuple(self.teacher_layer)


def align(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) -> (B, C, *size): means where a side shrinks, bilinear where it grows."""
    require_maps("align", maps)
    for side in size:
        require_range("align", "size", side, 1)
    smaller = coarser(maps.shape[2:], size)
    maps = F.adaptive_avg_pool2d(maps, smaller)
    if smaller == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def coarser(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """The smaller of both sizes, for each side."""
    return tuple(min(sides) for sides in zip(one, other))


def joined_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, h, w) of two models on the coarser of their grids: the finer is averaged."""
    size = coarser(student.shape[2:], teacher.shape[2:])
    return align(student, size), align(teacher, size)


def joined_tokens(student: ModelOutputs, teacher: ModelOutputs, pair: Pair,
                  with_prefix: bool = False) -> tuple[Tensor, Tensor]:
    """Image tokens (B, N, D) of a pair of layers, on the coarser grid where they lie on two.

    `with_prefix` adds the tokens in front, such as a class token, where both models have the same.
    """
    first, second = student.features[pair[0]], teacher.features[pair[1]]
    both_tokens = first.ndim == second.ndim == 3
    if both_tokens and same_grid(student, teacher, first.shape[1], second.shape[1]):
        if with_prefix and student.prefix == teacher.prefix:
            return first, second
        return student.tokens(pair[0]), teacher.tokens(pair[1])
    both = joined_maps(student.maps(pair[0]), teacher.maps(pair[1]))
    return tuple(maps.flatten(2).transpose(1, 2) for maps in both)


def same_grid(student: ModelOutputs, teacher: ModelOutputs, tokens: int, others: int) -> bool:
    """Whether `tokens` of the student and `others` of the teacher have as many image tokens.

    False also where both models name the grid of their patches, and these differ.
    """
    one, other = student.named_grid(tokens), teacher.named_grid(others)
    alike = None in (one, other) or one == other
    return alike and tokens - student.prefix == others - teacher.prefix


def joined_grid(student: ModelOutputs, teacher: ModelOutputs, pair: Pair) -> tuple[int, ...]:
    """(rows, columns) of what `joined_tokens` returns; LabError if tokens form no grid."""
    return coarser(student.maps(pair[0]).shape[2:], teacher.maps(pair[1]).shape[2:])


def require_batch(caller: str, student: Tensor, teacher: Tensor, least: int) -> None:
    """Raise LabError unless both are of the same number of pictures, and of `least` or more."""
    if len(student) != len(teacher):
        raise LabError(f"{caller}: the student's features are of {len(student)} pictures and the "
                       f"teacher's of {len(teacher)}; show both the same batch")
    if len(student) < least:
        raise LabError(f"{caller}: compares pictures, and the batch has {len(student)}; give a "
                       f"batch_size of {least} or more (for each process, where several train)")


def require_maps(caller: str, maps: Tensor) -> None:
    """Raise LabError unless `maps` have four axes."""
    if maps.ndim != 4:
        raise LabError(f"{caller}: maps have shape {tuple(maps.shape)}; give (B, C, h, w): "
                       "ModelOutputs.maps(layer) makes them of tokens")


def _tuple(layers: Layers) -> tuple[int, ...]:
    return tuple(layers) if isinstance(layers, (tuple, list)) else (layers,)
