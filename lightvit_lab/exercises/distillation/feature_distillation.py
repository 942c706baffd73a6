"""What the exercises of `chapters/distillation/feature_distillation` are tried on."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor
from torch.autograd import grad

from ..declaration import Exercise


def maps(generator: Generator) -> list[tuple]:
    """Feature maps (batch, channels, height, width)."""
    return [(torch.randn(shape, generator=generator) + 0.3,)
            for shape in ((3, 5, 4, 4), (2, 8, 3, 3), (4, 2, 5, 5))]


def batches(generator: Generator) -> list[tuple]:
    """Maps of student and teacher with as many channels, so that comparing these raises nothing."""
    def maps_of(size: int, side: int) -> Tensor:
        return torch.randn(size, 6, side, side, generator=generator) + 0.2

    return [(maps_of(size, 4), maps_of(size, 3)) for size in (5, 4, 7)]


def tokens(generator: Generator) -> list[tuple]:
    """Tokens (batch, n, dim) of student and teacher, of different widths."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(size, 7, 4), draw(size, 7, 9)) for size in (3, 2, 4)]


def with_gradients(loss: Callable[..., Tensor]) -> Callable[..., dict[str, Tensor]]:
    """The loss, and its gradients in student, teacher and projector; zeros where none flows."""
    def differentiated(*tensors: Tensor) -> dict[str, Tensor]:
        value, slopes = loss(*tensors), tuple(map(torch.zeros_like, tensors))
        if isinstance(value, Tensor) and value.requires_grad:
            slopes = grad(value, tensors, allow_unused=True, materialize_grads=True)
        names = ("gradient of student", "gradient of teacher", "gradient of weight")
        return {"loss": value, **dict(zip(names, slopes))}

    return differentiated


def hints(generator: Generator) -> list[tuple]:
    """Student, teacher and projector with gradients; as wide, so that not to project is legal."""
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    return [(normal(3, 4, 5), normal(3, 4, 5), normal(5, 5)) for _ in range(3)]


def features(generator: Generator) -> list[tuple]:
    """Features of 40 tokens, 8 channels: energy falls by direction, and the mean is not zero."""
    def draw() -> Tensor:
        mixed = torch.randn(40, 8, generator=generator) * 0.7 ** torch.arange(8)
        return mixed @ torch.randn(8, 8, generator=generator) + 0.5

    return [(draw(), 3), (draw(), 2), (draw(), 5)]


EXERCISES = (
    Exercise("feature_distillation.attention_map", points=2, minutes=8, cases=maps),
    Exercise("feature_distillation.similarity", points=2, minutes=10, cases=batches),
    Exercise("feature_distillation.budget", points=1, minutes=6, digits=3),
    Exercise("feature_distillation.within", points=2, minutes=10, cases=tokens),
    Exercise("feature_distillation.hint", 2, 10, hints, prepare=with_gradients),
    Exercise("feature_distillation.unreachable", 2, 12, features, tolerance=1e-4),
)
