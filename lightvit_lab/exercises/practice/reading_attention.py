"""What the exercises of `chapters/practice/reading_attention` are tried on."""

from __future__ import annotations

import torch
from torch import Tensor

from ..declaration import Exercise


def _thinned_maps(generator: torch.Generator) -> list[tuple]:
    """Attention of three blocks, two heads, five tokens, of which some entries were discarded: rows
    do not sum to 1.
    """
    def block() -> Tensor:
        weights = (2 * torch.randn(2, 5, 5, generator=generator)).softmax(dim=-1)
        return weights * (torch.rand(2, 5, 5, generator=generator) > 0.3)

    return [([block(), block(), block()],) for _ in range(3)]


def _flows(generator: torch.Generator) -> list[tuple]:
    return [((2 * torch.randn(1 + side * side, 1 + side * side, generator=generator)).softmax(dim=-1),) for side in (3, 4)]


def _steps(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return [(draw(3, 6, 6).softmax(dim=-1), draw(3, 6, 6), torch.eye(6) + draw(6, 6).abs()) for _ in range(3)]


def _maps_and_masks(generator: torch.Generator) -> list[tuple]:
    """Maps of 4 x 4 patches with a peak and some negative entries, and masks of 16 x 16 pixels that
    cut through patches.
    """
    cases = []
    for left, top in ((3, 5), (6, 2), (1, 7)):
        mask = torch.zeros(16, 16, dtype=torch.bool)
        mask[top:top + 6, left:left + 7] = True
        patch_map = torch.rand(4, 4, generator=generator) - 0.1
        patch_map[top // 4 + 1, left // 4 + 1] += 2
        cases.append((patch_map, mask))
    return cases


EXERCISES = (
    Exercise("reading_attention.residual", points=1, minutes=5, tolerance=2e-3),
    Exercise("reading_attention.rollout", points=3, minutes=15, cases=_thinned_maps),
    Exercise("reading_attention.patches", points=1, minutes=6, cases=_flows),
    Exercise("reading_attention.relevance", points=2, minutes=10, cases=_steps),
    Exercise("reading_attention.energy", points=2, minutes=10, cases=_maps_and_masks),
)
