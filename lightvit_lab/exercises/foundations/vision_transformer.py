"""What the exercises of `chapters/foundations/vision_transformer` are tried on."""

from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor

from ... import checkpoint, data, training
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, pairs


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


HALF_MACS = {"attn": 4 * 65 * 96**2 + 2 * 65**2 * 96, "mlp": 8 * 65 * 96**2}


@cache
def without(silent: frozenset = frozenset()) -> tuple[float, float]:
    """Of the zoo's model without these halves of blocks: share of the blocks' MACs, accuracy."""
    vit = checkpoint.load("zoo:lab_vit_teacher/shapes")
    for number, part in silent:
        getattr(vit.blocks[number], part).register_forward_hook(
            lambda layer, inputs, output: torch.zeros_like(output))
    saved = sum(HALF_MACS[part] for _, part in silent) / (6 * sum(HALF_MACS.values()))
    return 1 - saved, training.evaluate(vit, data.load("shapes", "val", count=128)).accuracy


def judge_halves(answer: Any) -> tuple[str, str]:
    """Pairs of block and half: at most 45 % of the MACs are left, at most three points are lost."""
    silent = pairs(answer, range(6), list(HALF_MACS))
    if silent is None:
        return "form", 'Give a list of pairs (block, "attn" or "mlp"), blocks from 0 to 5.'
    (left, right), wanted = without(silent), without()[1] - 0.03
    lost = "first" if any(number == 0 for number, _ in silent) else "too much"
    return ("" if right >= wanted else lost) or ("dear" if left > 0.45 else ""), (
        f"{left:.1%} of the blocks' MACs are left, at most 45 % are allowed; the accuracy is "
        f"{right:.1%}, at least {wanted:.1%} is wanted.")


EXERCISES = (
    Exercise("vision_transformer.count", points=1, minutes=2),
    Exercise("vision_transformer.patchify", points=3, minutes=12, cases=pictures),
    Exercise("vision_transformer.attention", points=3, minutes=10, cases=heads, tolerance=1e-4),
    Exercise("vision_transformer.block_macs", points=3, minutes=12,
             cases=lambda g: [block(g) for _ in range(3)]),
    Exercise("vision_transformer.budget", points=2, minutes=8),
    Exercise("vision_transformer.diagnose", points=3, minutes=10),
    Exercise("vision_transformer.halves", points=3, minutes=12, seconds=60,
             prepare=by_outcome(judge_halves),
             names={"without": lambda silent: without(frozenset(silent))}),
)

OPEN = (OpenExercise("vision_transformer.why_positions", points=4, minutes=8),)
