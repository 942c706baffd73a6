"""What the exercises of `chapters/compression/pruning` are tried on."""

from functools import partial

import torch
from torch import Generator

from ..declaration import Exercise


def two_layers(generator: Generator) -> list[tuple]:
    """Weights of both layers of an MLP as PyTorch stores them: (hidden, dim) and (dim, hidden)."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(hidden, dim), 3 * draw(dim, hidden)) for dim, hidden in ((3, 8), (6, 5))]


def weights(generator: Generator) -> list[tuple]:
    """A weight whose rows divide into groups of four."""
    return [(torch.randn(shape, generator=generator),) for shape in ((8, 8), (4, 16))]


def layers(generator: Generator) -> list[tuple]:
    """Inputs (tokens, n) that go together, weight (outputs, n), columns that stay, a felt ridge."""
    def layer(columns: int, keep: int) -> tuple:
        mixing = draw(columns, columns)
        inputs = draw(40, columns) @ mixing / columns**0.5
        kept = torch.randperm(columns, generator=generator)[:keep].sort().values
        return inputs, draw(5, columns), kept, 8.0

    draw = partial(torch.randn, generator=generator)
    return [layer(6, 3), layer(9, 4)]


EXERCISES = (
    Exercise("pruning.neurons", points=2, minutes=8, cases=two_layers),
    Exercise("pruning.two_four", points=2, minutes=10, cases=weights),
    Exercise("pruning.scale", points=1, minutes=5, digits=2),
    Exercise("pruning.compensation", points=3, minutes=15, cases=layers, tolerance=1e-4),
    Exercise("pruning.realisation", points=1, minutes=5, digits=2, unit="share"),
    Exercise("pruning.budget", points=2, minutes=8, digits=2, unit="share"),
)
