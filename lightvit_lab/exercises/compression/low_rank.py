"""What the exercises of `chapters/compression/low_rank` are tried on."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from ..declaration import Exercise


def as_one_layer(answer: Callable[..., tuple]) -> Callable[..., tuple[int, Tensor, Tensor]]:
    """The thin layers' rank, product and bias: what does not hang on how the answer splits."""
    def used(weight: Tensor, bias: Tensor, rank: int) -> tuple[int, Tensor, Tensor]:
        first, second, kept = answer(weight, bias, rank)
        return len(first), second @ first, kept
    return used


def layers(generator: Generator) -> list[tuple]:
    """Weights of several shapes, biases and a rank below the full one, in float64."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return [(draw(out, into), draw(out), rank)
            for out, into, rank in ((7, 5, 2), (5, 8, 3), (12, 6, 2))]


def spectra(generator: Generator) -> list[tuple]:
    """Singular values, falling about as those of whitened weights do, and a share of energy.

    The last share is reached exactly.
    """
    def falling(count: int, fall: float) -> Tensor:
        wobble = 1 + 0.1 * torch.rand(count, generator=generator, dtype=torch.float64)
        return (fall ** torch.arange(count) * wobble).sort(descending=True).values

    exact = torch.tensor([3.0, 2, 1, 1, 1]).double()      # squares that sum to 16
    scale = 2.0 ** torch.randint(-3, 4, (1,), generator=generator)
    return [(falling(24, 0.93), 0.9), (falling(30, 0.95), 0.8), (falling(40, 0.97), 0.85),
            (falling(36, 0.96), 0.7), (scale * exact, 13 / 16)]


def inputs(generator: Generator) -> list[tuple]:
    """A weight, the second moment of correlated inputs, and a rank, in float64."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    found = []
    for out, into, rank in ((9, 6, 2), (5, 8, 3), (10, 7, 3)):
        seen = draw(60, into) @ draw(into, into) + draw(into)
        found.append((draw(out, into), seen.T @ seen / len(seen), rank))
    return found


def keys(generator: Generator) -> list[tuple]:
    """Keys (B, heads, rank ** 2, d): all tokens but the first divide by rank - 1, all by rank."""
    return [(torch.randn(batch, 2, rank**2, 3, generator=generator), rank)
            for batch, rank in ((2, 3), (1, 4), (2, 5))]


EXERCISES = (
    Exercise("low_rank.break_even", points=1, minutes=4),
    Exercise("low_rank.factors", points=2, minutes=10, cases=layers, prepare=as_one_layer),
    Exercise("low_rank.energy", points=2, minutes=8, cases=spectra),
    Exercise("low_rank.whitened", points=3, minutes=15, cases=inputs, tolerance=1e-6),
    Exercise("low_rank.segments", points=2, minutes=8, cases=keys),
    Exercise("low_rank.budget", points=1, minutes=6, digits=3),
)
