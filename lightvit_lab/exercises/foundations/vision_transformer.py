"""What the exercises of `chapters/foundations/vision_transformer` are tried on."""

from __future__ import annotations

import torch
from torch import Tensor

from ..declaration import Exercise, OpenExercise


def _picture_cases(generator: torch.Generator) -> list[tuple]:
    return [(torch.rand(2, 3, 8, 12, generator=generator), 4), (torch.rand(1, 1, 6, 6, generator=generator), 2)]


def _head_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator)

    return [tuple(draw(2, 3, 5, 8) for _ in range(3)), (draw(1, 2, 4, 16), draw(1, 2, 7, 16), draw(1, 2, 7, 16))]


def _block_cases(generator: torch.Generator) -> list[tuple]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    return [(draw(60, 300), 8 * draw(6, 30), draw(2, 5), draw(10, 50)) for _ in range(3)]


EXERCISES = (
    Exercise("vision_transformer.count", points=1, minutes=2),
    Exercise("vision_transformer.patchify", points=3, minutes=12, cases=_picture_cases),
    Exercise("vision_transformer.attention", points=3, minutes=10, cases=_head_cases, tolerance=1e-4),
    Exercise("vision_transformer.block_macs", points=3, minutes=12, cases=_block_cases),
    Exercise("vision_transformer.budget", points=2, minutes=8),
    Exercise("vision_transformer.diagnose", points=3, minutes=10),
)

OPEN = (OpenExercise("vision_transformer.why_positions", points=4, minutes=8),)
