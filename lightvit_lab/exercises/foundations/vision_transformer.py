"""What the exercises of `chapters/foundations/vision_transformer` are tried on."""

import torch
from torch import Generator, Tensor

from ..declaration import Exercise, OpenExercise


def pictures(generator: Generator) -> list[tuple]:
    """Pictures (batch, channels, height, width), and the side of a patch."""
    return [(torch.rand(2, 3, 8, 12, generator=generator), 4),
            (torch.rand(1, 1, 6, 6, generator=generator), 2)]


def heads(generator: Generator) -> list[tuple]:
    """Queries, keys and values (batch, heads, tokens, dim); once more keys than queries."""
    def normal(*shape: int) -> Tensor:
        return 2 * torch.randn(shape, generator=generator)

    return [(normal(2, 3, 5, 8), normal(2, 3, 5, 8), normal(2, 3, 5, 8)),
            (normal(1, 2, 4, 16), normal(1, 2, 7, 16), normal(1, 2, 7, 16))]


def block(generator: Generator) -> tuple:
    """Tokens, width, ratio of the MLP and keys of a block."""
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    return draw(60, 300), 8 * draw(6, 30), draw(2, 5), draw(10, 50)


EXERCISES = (
    Exercise("vision_transformer.count", points=1, minutes=2),
    Exercise("vision_transformer.patchify", points=3, minutes=12, cases=pictures),
    Exercise("vision_transformer.attention", points=3, minutes=10, cases=heads, tolerance=1e-4),
    Exercise("vision_transformer.block_macs", points=3, minutes=12,
             cases=lambda g: [block(g) for _ in range(3)]),
    Exercise("vision_transformer.budget", points=2, minutes=8),
    Exercise("vision_transformer.diagnose", points=3, minutes=10),
)

OPEN = (OpenExercise("vision_transformer.why_positions", points=4, minutes=8),)
