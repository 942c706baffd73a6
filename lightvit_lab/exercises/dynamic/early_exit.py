"""What the exercises of `chapters/dynamic/early_exit` are tried on."""

from __future__ import annotations

import torch
from torch import Tensor

from ..declaration import Exercise


def _leavings(generator: torch.Generator) -> list[tuple]:
    """Exits that pictures took, (N,), the end among them, and MACs of leaving at each exit, rising
    unevenly.
    """
    found = []
    for pictures, ends in ((12, 4), (20, 5), (9, 3)):
        macs = (10**6 * (1 + torch.rand(ends, generator=generator))).long().cumsum(0)
        exits = torch.randint(ends, (pictures,), generator=generator)
        exits[0], exits[1] = ends - 1, 0
        found.append((exits, macs))
    return found


def _names(generator: torch.Generator) -> list[tuple]:
    """Classes that exits name, (exits, N), few enough that runs occur and break; and how many must
    agree.
    """
    return [(torch.randint(2 + (agree == 2), (exits, 40), generator=generator), agree)
            for exits, agree in ((5, 2), (7, 3), (6, 2))]


def _validations(generator: torch.Generator) -> list[tuple]:
    """Confidences at an exit, whether exit and end are right, an accuracy that can be reached,
    thresholds that rise.
    """
    thresholds, found = torch.linspace(0, 1.01, 51, dtype=torch.float64), []
    for _ in range(3):
        sure = 0.2 + 0.8 * torch.rand(400, generator=generator, dtype=torch.float64)
        early = torch.rand(400, generator=generator, dtype=torch.float64) < 0.25 + 0.75 * sure**2
        end = torch.rand(400, generator=generator, dtype=torch.float64) < 0.93
        found.append((sure, early, end, end.double().mean().item() - 0.02, thresholds))
    return found


def _confidences(generator: torch.Generator) -> list[tuple]:
    """Confidences (N,) off the edges of bins, and whether they were right: some bins too sure, some
    not enough.
    """
    found = []
    for bins in (5, 10, 4):
        sure = (torch.randint(bins, (300,), generator=generator) + 0.1
                + 0.8 * torch.rand(300, generator=generator, dtype=torch.float64)) / bins
        found.append((sure, torch.rand(300, generator=generator, dtype=torch.float64) < 0.3 + 0.4 * sure, bins))
    return found


def _scores(generator: torch.Generator) -> list[tuple]:
    """Halting scores (blocks,): some reach one on the way, some only because the blocks end."""
    def draw(count: int, size: float) -> Tensor:
        return size * (0.5 + torch.rand(count, generator=generator, dtype=torch.float64))

    return [(draw(6, 0.35),), (draw(6, 0.08),), (draw(12, 0.2),), (draw(4, 0.55),)]


EXERCISES = (
    Exercise("early_exit.mean_cost", points=1, minutes=5, cases=_leavings, tolerance=1e-6),
    Exercise("early_exit.patience", points=2, minutes=12, cases=_names),
    Exercise("early_exit.threshold", points=2, minutes=12, cases=_validations),
    Exercise("early_exit.ece", points=2, minutes=10, cases=_confidences),
    Exercise("early_exit.halting", points=2, minutes=12, cases=_scores),
    Exercise("early_exit.unused", points=1, minutes=8, tolerance=2e-3),
)
