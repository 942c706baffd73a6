"""What the exercises of `chapters/distillation/feature_distillation` are tried on."""

from __future__ import annotations

from collections.abc import Callable
import torch
from torch import Tensor

from ..declaration import Exercise


def _maps(generator: torch.Generator) -> list[tuple]:
    return [(torch.randn(size, generator=generator) + 0.3,) for size in ((3, 5, 4, 4), (2, 8, 3, 3), (4, 2, 5, 5))]


def _batches(generator: torch.Generator) -> list[tuple]:
    """Maps of student and teacher with as many channels, so that comparing channels raises nothing."""
    return [tuple(torch.randn(size, 6, side, side, generator=generator) + 0.2 for side in (4, 3)) for size in (5, 4, 7)]


def _token_pairs(generator: torch.Generator) -> list[tuple]:
    return [tuple(torch.randn(size, 7, dim, generator=generator) for dim in (4, 9)) for size in (3, 2, 4)]


def _with_gradients(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """The loss, and what flows back into student, teacher and projector; zeros where nothing does."""
    def differentiated(*tensors: Tensor) -> tuple[Tensor, ...]:
        value = loss(*tensors)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value, *map(torch.zeros_like, tensors)
        slopes = torch.autograd.grad(value, tensors, allow_unused=True)
        return value, *(torch.zeros_like(one) if slope is None else slope for one, slope in zip(tensors, slopes))

    return differentiated


def _hints(generator: torch.Generator) -> list[tuple]:
    """Student, teacher (as wide, so that not to project raises nothing) and projector, all with
    gradients.
    """
    shapes = ((3, 4, 5), (3, 4, 5), (5, 5))
    return [tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes) for _ in range(3)]


def _features(generator: torch.Generator) -> list[tuple]:
    """Features of 40 tokens and 8 channels: energy falls from direction to direction, and the mean
    is not zero.
    """
    def draw() -> Tensor:
        mixed = torch.randn(40, 8, generator=generator) * 0.7 ** torch.arange(8)
        return mixed @ torch.randn(8, 8, generator=generator) + 0.5

    return [(draw(), width) for width in (3, 2, 5)]


EXERCISES = (
    Exercise("feature_distillation.attention_map", points=2, minutes=8, cases=_maps),
    Exercise("feature_distillation.similarity", points=2, minutes=10, cases=_batches),
    Exercise("feature_distillation.budget", points=1, minutes=6, tolerance=2e-3),
    Exercise("feature_distillation.within", points=2, minutes=10, cases=_token_pairs),
    Exercise("feature_distillation.hint", points=2, minutes=10, cases=_hints, prepare=_with_gradients),
    Exercise("feature_distillation.unreachable", points=2, minutes=12, cases=_features, tolerance=1e-4),
)
