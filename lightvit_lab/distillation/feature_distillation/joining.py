"""What joins the features of two models before they are compared: layers by pairs, grids by
averaging, checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, number, require_range
from ..model_outputs import ModelOutputs

Layers = int | tuple[int, ...]   # 0-based blocks or stages, also from the end: -1 is the last


@dataclass(frozen=True)
class Pairs:
    """Which layers of student and teacher belong together: one of each, or tuples of equal length.

    Several pairs count by their mean. Default weights are ours: from a trained CNN on shapes they
    make a term's gradient a fifth to a half of the labels', but for `DeepGeneration`, whose
    generator has to learn first. Raises LabError on other layers, and on a negative weight.
    """

    student_layer: Layers = -1
    teacher_layer: Layers = -1
    weight: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_range(name, "weight", self.weight, 0)
        for field in ("student_layer", "teacher_layer"):
            found = _tuple(given := getattr(self, field))
            if not found or any(number(layer) is None or number(layer) % 1 for layer in found):
                raise LabError(f"{name}: {field}={given!r}; give a whole number, from 0, or from the end as -1, or a "
                               "tuple of such")
            plain = tuple(int(number(layer)) for layer in found)
            object.__setattr__(self, field, plain if isinstance(given, tuple) else plain[0])
        if len(_tuple(self.student_layer)) != len(_tuple(self.teacher_layer)):
            raise LabError(f"{name}: student_layer={self.student_layer!r} and teacher_layer={self.teacher_layer!r} "
                           "make no pairs; give as many layers of one as of the other")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(layer of the student, layer of the teacher), in order."""
        return list(zip(_tuple(self.student_layer), _tuple(self.teacher_layer)))


@dataclass(frozen=True)
class FeaturePairs(Pairs):
    """Pairs of layers whose outputs are compared."""

    @property
    def student_features(self) -> tuple[int, ...]:
        """Layers of the student whose outputs are compared."""
        return _tuple(self.student_layer)

    @property
    def teacher_features(self) -> tuple[int, ...]:
        """Layers of the teacher whose outputs are compared."""
        return _tuple(self.teacher_layer)


def align(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) -> (B, C, *size): means of what a cell covers where a side shrinks, else
    bilinear.
    """
    _require_maps("align", maps)
    for side in size:
        require_range("align", "size", side, 1)
    smaller = tuple(min(has, wants) for has, wants in zip(maps.shape[2:], size))
    maps = F.adaptive_avg_pool2d(maps, smaller)
    if smaller == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def joined_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, h, w) of two models on the coarser of their grids: the finer is averaged, nothing
    is made up.
    """
    size = tuple(min(sides) for sides in zip(student.shape[2:], teacher.shape[2:]))
    return align(student, size), align(teacher, size)


def joined_tokens(student: ModelOutputs, teacher: ModelOutputs, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Image tokens (B, N, D) of a pair of layers on one grid, the coarser of both where they lie on
    two.
    """
    shown, taught = student.tokens(pair[0]), teacher.tokens(pair[1])
    plain = student.features[pair[0]].ndim == teacher.features[pair[1]].ndim == 3
    if plain and alike(student, teacher, shown.shape[1], taught.shape[1]):
        return shown, taught
    return tuple(maps.flatten(2).transpose(1, 2) for maps in joined_maps(student.maps(pair[0]), teacher.maps(pair[1])))


def alike(student: ModelOutputs, teacher: ModelOutputs, patches: int, others: int) -> bool:
    """Whether both have as many patches, and neither says that they lie otherwise than the other's."""
    one, other = student.said_grid(student.prefix + patches), teacher.said_grid(teacher.prefix + others)
    return patches == others and (None in (one, other) or one == other)


def joined_grid(student: ModelOutputs, teacher: ModelOutputs, pair: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of what `joined_tokens` makes of a pair of layers; LabError if tokens form no
    grid.
    """
    sides = zip(student.maps(pair[0]).shape[2:], teacher.maps(pair[1]).shape[2:])
    rows, columns = (min(both) for both in sides)
    return rows, columns


def require_same(caller: str, student: Tensor, teacher: Tensor, mend: str) -> None:
    """Raise LabError unless both have one shape."""
    if student.shape != teacher.shape:
        raise LabError(f"{caller}: the student's {tuple(student.shape)} and the teacher's {tuple(teacher.shape)} "
                       f"differ in shape; {mend}")


def require_batch(caller: str, student: Tensor, teacher: Tensor, least: int) -> None:
    """Raise LabError unless both show the same number of pictures, and at least so many."""
    if len(student) != len(teacher):
        raise LabError(f"{caller}: the student's features are of {len(student)} pictures and the teacher's of "
                       f"{len(teacher)}; show both the same batch")
    if len(student) < least:
        raise LabError(f"{caller}: compares pictures with each other, and the batch has {len(student)}; give a "
                       f"batch_size of {least} or more (for each process, where several train)")


def _require_maps(caller: str, maps: Tensor) -> None:
    if maps.ndim != 4:
        raise LabError(f"{caller}: maps have shape {tuple(maps.shape)}; give (B, C, h, w): ModelOutputs.maps(layer) makes them "
                       "of tokens")


def _tuple(layers: Layers) -> tuple[int, ...]:
    return tuple(layers) if isinstance(layers, (tuple, list)) else (layers,)
