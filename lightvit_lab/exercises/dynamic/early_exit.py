"""What the exercises of `chapters/dynamic/early_exit` are tried on."""

import torch
from torch import Generator, Tensor

from ..declaration import Exercise


def uniform(generator: Generator, count: int) -> Tensor:
    """(count,) numbers of double precision between 0 and 1."""
    return torch.rand(count, generator=generator, dtype=torch.float64)


def leavings(generator: Generator, pictures: int, ends: int) -> tuple:
    """Exits that pictures took, (N,), the end among them, and their MACs, rising unevenly."""
    macs = (10**6 * (1 + torch.rand(ends, generator=generator))).long().cumsum(0)
    exits = torch.randint(ends, (pictures,), generator=generator)
    exits[0], exits[1] = ends - 1, 0
    return exits, macs


def named(generator: Generator) -> list[tuple]:
    """Classes that exits name, (exits, N), in runs that break; and how many must agree."""
    return [(torch.randint(classes, (exits, 40), generator=generator), agree)
            for classes, exits, agree in ((3, 5, 2), (2, 7, 3), (3, 6, 2))]


def validation(generator: Generator) -> tuple:
    """Confidences, whether exit and end are right, a reachable accuracy, rising thresholds."""
    sure = 0.2 + 0.8 * uniform(generator, 400)
    early = uniform(generator, 400) < 0.25 + 0.75 * sure**2
    end = uniform(generator, 400) < 0.93
    wanted = end.double().mean().item() - 0.02
    return sure, early, end, wanted, torch.linspace(0, 1.01, 51, dtype=torch.float64)


def confidences(generator: Generator, bins: int) -> tuple:
    """Confidences (N,) off bins' edges, and whether right: some bins too sure, some too little."""
    place = torch.randint(bins, (300,), generator=generator)
    sure = (place + 0.1 + 0.8 * uniform(generator, 300)) / bins
    return sure, uniform(generator, 300) < 0.3 + 0.4 * sure, bins


def scores(generator: Generator) -> list[tuple]:
    """Halting scores (blocks,): some reach one on the way, some only because the blocks end."""
    return [(size * (0.5 + uniform(generator, blocks)),)
            for blocks, size in ((6, 0.35), (6, 0.08), (12, 0.2), (4, 0.55))]


EXERCISES = (
    Exercise("early_exit.mean_cost", points=1, minutes=5, tolerance=1e-6,
             cases=lambda g: [leavings(g, 12, 4), leavings(g, 20, 5), leavings(g, 9, 3)]),
    Exercise("early_exit.patience", points=2, minutes=12, cases=named),
    Exercise("early_exit.threshold", points=2, minutes=12,
             cases=lambda g: [validation(g) for _ in range(3)]),
    Exercise("early_exit.ece", points=2, minutes=10,
             cases=lambda g: [confidences(g, bins) for bins in (5, 10, 4)]),
    Exercise("early_exit.halting", points=2, minutes=12, cases=scores),
    Exercise("early_exit.unused", points=1, minutes=8, tolerance=2e-3),
)
