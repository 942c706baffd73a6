"""What the exercises of `chapters/components/lightvit` are tried on."""

from __future__ import annotations

import torch
from torch import Tensor

from ...components import attend
from ..declaration import Exercise


def _map_cases(generator: torch.Generator) -> list[tuple]:
    return [(2 * torch.randn(2, 4, 6, 8, generator=generator), 2),
            (2 * torch.randn(1, 6, 9, 4, generator=generator), 3)]


def _global_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator)

    return [(draw(2, 2, 3, 8), *(draw(2, 2, 10, 8) for _ in range(3)), 0.3 * draw(8, 8), 0.3 * draw(8, 8), draw(2, 2, 10, 8)),
            (draw(1, 4, 2, 4), *(draw(1, 4, 6, 4) for _ in range(3)), 0.5 * draw(4, 4), 0.5 * draw(4, 4), draw(1, 4, 6, 4))]


def _gate_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [(draw(2, 7, 8), draw(2, 7, 4), draw(4, 8), draw(8, 1)), (draw(3, 5, 6), draw(3, 5, 2), draw(2, 6), draw(4, 1))]


def _stage_cases(generator: torch.Generator) -> list[tuple]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    return [(area * draw(4, 17), draw(4, 25), 32 * draw(2, 9), area) for area in (49, 16, 49)]


EXERCISES = (
    Exercise("lightvit.reach", points=1, minutes=3),
    Exercise("lightvit.windows", points=3, minutes=15, cases=_map_cases, tolerance=1e-4,
             names={"attend": attend}),
    Exercise("lightvit.aggregate_and_broadcast", points=3, minutes=15, cases=_global_cases, tolerance=1e-4),
    Exercise("lightvit.gates", points=2, minutes=10, cases=_gate_cases),
    Exercise("lightvit.attention_macs", points=3, minutes=12, cases=_stage_cases),
    Exercise("lightvit.budget", points=2, minutes=6),
)
