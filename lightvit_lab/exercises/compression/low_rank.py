"""What the exercises of `chapters/compression/low_rank` are tried on."""

from __future__ import annotations

from collections.abc import Callable
import torch
from torch import Tensor

from ..declaration import Exercise


Thin = tuple[Tensor, Tensor, Tensor]


def _as_one_layer(answer: Callable[..., Thin]) -> Callable[..., tuple[int, Tensor, Tensor]]:
    """The rank, the product and the bias of the two thin layers: what does not hang on how the
    answer splits them.
    """
    def used(weight: Tensor, bias: Tensor, rank: int) -> tuple[int, Tensor, Tensor]:
        first, second, kept = answer(weight, bias, rank)
        return len(first), second @ first, kept
    return used


def _layers(generator: torch.Generator) -> list[tuple]:
    """Weights of several shapes, biases and a rank below the full one, in float64."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(draw(out, into), draw(out), rank) for out, into, rank in ((7, 5, 2), (5, 8, 3), (12, 6, 2))]


def _spectra(generator: torch.Generator) -> list[tuple]:
    """Singular values, falling about as those of whitened weights do, and a share of their energy."""
    found = []
    for count, fall, energy in ((24, 0.93, 0.9), (30, 0.95, 0.8), (40, 0.97, 0.85), (36, 0.96, 0.7)):
        wobble = 1 + 0.1 * torch.rand(count, generator=generator, dtype=torch.float64)
        found.append(((fall ** torch.arange(count) * wobble).sort(descending=True).values, energy))
    return found


def _inputs(generator: torch.Generator) -> list[tuple]:
    """A weight, the second moment of correlated inputs, and a rank, in float64."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = []
    for out, into, rank in ((9, 6, 2), (5, 8, 3), (10, 7, 3)):
        seen = draw(60, into) @ draw(into, into) + draw(into)
        found.append((draw(out, into), seen.T @ seen / len(seen), rank))
    return found


def _keys(generator: torch.Generator) -> list[tuple]:
    """Keys (B, heads, tokens, head_dim) of rank ** 2 tokens: all but the first divide by rank - 1,
    and all by rank.
    """
    return [(torch.randn(batch, 2, rank**2, 3, generator=generator), rank) for batch, rank in ((2, 3), (1, 4), (2, 5))]


EXERCISES = (
    Exercise("low_rank.break_even", points=1, minutes=4),
    Exercise("low_rank.factors", points=2, minutes=10, cases=_layers, prepare=_as_one_layer),
    Exercise("low_rank.energy", points=2, minutes=8, cases=_spectra),
    Exercise("low_rank.whitened", points=3, minutes=15, cases=_inputs, tolerance=1e-6),
    Exercise("low_rank.segments", points=2, minutes=8, cases=_keys),
    Exercise("low_rank.budget", points=1, minutes=6, tolerance=2e-3),
)
