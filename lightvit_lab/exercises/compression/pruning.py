"""What the exercises of `chapters/compression/pruning` are tried on."""

from __future__ import annotations

import torch

from ..declaration import Exercise


def _two_layers(generator: torch.Generator) -> list[tuple]:
    """Weights of both layers of an MLP as PyTorch stores them: (hidden, dim) and (dim, hidden)."""
    return [(torch.randn(hidden, dim, generator=generator), 3 * torch.randn(dim, hidden, generator=generator))
            for dim, hidden in ((3, 8), (6, 5))]


def _one_weight(generator: torch.Generator) -> list[tuple]:
    return [(torch.randn(rows, columns, generator=generator),) for rows, columns in ((8, 8), (4, 16))]


def _a_layer(generator: torch.Generator) -> list[tuple]:
    """Inputs that go together, (tokens, n), a weight (outputs, n), which columns stay, and a ridge
    that is felt.
    """
    cases = []
    for columns, keep in ((6, 3), (9, 4)):
        mixing = torch.randn(columns, columns, generator=generator)
        inputs = torch.randn(40, columns, generator=generator) @ mixing / columns**0.5
        kept = torch.randperm(columns, generator=generator)[:keep].sort().values
        cases.append((inputs, torch.randn(5, columns, generator=generator), kept, 8.0))
    return cases


EXERCISES = (
    Exercise("pruning.neurons", points=2, minutes=8, cases=_two_layers),
    Exercise("pruning.two_four", points=2, minutes=10, cases=_one_weight),
    Exercise("pruning.scale", points=1, minutes=5, tolerance=2e-3),
    Exercise("pruning.compensation", points=3, minutes=15, cases=_a_layer, tolerance=1e-4),
    Exercise("pruning.realisation", points=1, minutes=5, tolerance=2e-3),
    Exercise("pruning.budget", points=2, minutes=8, tolerance=2e-3),
)
