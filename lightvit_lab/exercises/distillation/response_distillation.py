"""What the exercises of `chapters/distillation/response_distillation` are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from ..declaration import Exercise


def _logits(generator: torch.Generator) -> list[tuple]:
    """Logits of student and teacher, of several sizes, and a temperature that is not 1."""
    def draw(rows: int, classes: int, scale: float) -> Tensor:
        return scale * torch.randn(rows, classes, generator=generator)

    return [(draw(rows, classes, 1.0), draw(rows, classes, 3.0), temperature)
            for rows, classes, temperature in ((3, 5, 2.0), (4, 7, 4.0), (6, 4, 0.5))]


def _two_layers(generator: torch.Generator) -> list[tuple]:
    """Pictures of six numbers, their labels among four classes, and the weights of both layers."""
    def draw(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator)

    return [(draw(8, 6), torch.randint(0, 4, (8,), generator=generator), draw(4, 6), 2 * draw(4, 6)) for _ in range(2)]


def _answers(generator: torch.Generator) -> list[tuple]:
    """Logits of both heads and of a teacher that is wrong now and then, and labels."""
    def draw(rows: int) -> Tensor:
        return 2 * torch.randn(rows, 5, generator=generator)

    return [(draw(rows), draw(rows), draw(rows), torch.randint(0, 5, (rows,), generator=generator)) for rows in (7, 12)]


EXERCISES = (
    Exercise("response_distillation.odds", points=1, minutes=4, tolerance=2e-3),
    Exercise("response_distillation.soft_targets", points=3, minutes=12, cases=_logits),
    Exercise("response_distillation.gradient", points=2, minutes=10, cases=_logits),
    Exercise("response_distillation.step", points=2, minutes=10, cases=_two_layers),
    Exercise("response_distillation.token", points=2, minutes=8, cases=_answers),
    Exercise("response_distillation.budget", points=1, minutes=6, tolerance=2e-3),
)
