"""What the exercises of `chapters/distillation/response_distillation` are tried on."""

from functools import partial

import torch
from torch import Generator, Tensor

from ..declaration import Exercise


def logits(generator: Generator) -> list[tuple]:
    """Logits of student and teacher, of several sizes, and a temperature that is not 1."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(shape), 3 * draw(shape), temperature)
            for shape, temperature in (((3, 5), 2.0), ((4, 7), 4.0), ((6, 4), 0.5))]


def two_layers(generator: Generator) -> list[tuple]:
    """Pictures of six numbers, their labels among four classes, and the weights of both layers."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(8, 6), torch.randint(4, (8,), generator=generator), draw(4, 6), 2 * draw(4, 6))
            for _ in range(2)]


def answers(generator: Generator) -> list[tuple]:
    """Logits of both heads and of a teacher that is wrong now and then, and labels."""
    def logits_of(rows: int) -> Tensor:
        return 2 * torch.randn(rows, 5, generator=generator)

    return [(logits_of(rows), logits_of(rows), logits_of(rows),
             torch.randint(5, (rows,), generator=generator)) for rows in (7, 12)]


EXERCISES = (
    Exercise("response_distillation.odds", points=1, minutes=4, digits=3),
    Exercise("response_distillation.soft_targets", points=3, minutes=12, cases=logits),
    Exercise("response_distillation.gradient", points=2, minutes=10, cases=logits),
    Exercise("response_distillation.step", points=2, minutes=10, cases=two_layers),
    Exercise("response_distillation.token", points=2, minutes=8, cases=answers),
    Exercise("response_distillation.budget", points=1, minutes=6, digits=2),
)
