"""What the exercises of `chapters/components/lightvit` are tried on."""

from functools import cache, partial
from typing import Any

import torch
from torch import Generator

from ... import checkpoint, data, training
from ...components import attend
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, pairs


def maps(generator: Generator) -> list[tuple]:
    """Maps (batch, height, width, dim), and the side of a window."""
    return [(2 * torch.randn(shape, generator=generator), size)
            for shape, size in (((2, 4, 6, 8), 2), ((1, 6, 9, 4), 3))]


def heads(generator: Generator) -> list[tuple]:
    """Global queries; queries, keys, values (batch, heads, N, d); projections; local output."""
    def case(batch: int, count: int, few: int, many: int, dim: int, scale: float) -> tuple:
        def normal(*shape: int) -> torch.Tensor:
            return 2 * torch.randn(shape, generator=generator)

        wide = batch, count, many, dim
        return (normal(batch, count, few, dim), normal(*wide), normal(*wide), normal(*wide),
                scale * normal(dim, dim), scale * normal(dim, dim), normal(*wide))

    return [case(2, 2, 3, 10, 8, 0.3), case(1, 4, 2, 6, 4, 0.5)]


def gates(generator: Generator) -> list[tuple]:
    """Output (batch, N, d), tokens (batch, N, few), and the weights to channels and places."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(batch, tokens, dim), draw(batch, tokens, few), draw(few, dim), draw(2 * few, 1))
            for batch, tokens, dim, few in ((2, 7, 8, 4), (3, 5, 6, 2))]


def stages(generator: Generator) -> list[tuple]:
    """Numbers of tokens and of global tokens, width, and tokens in a window."""
    draw = partial(torch.randint, size=(), generator=generator)
    return [(area * int(draw(4, 17)), int(draw(4, 25)), 32 * int(draw(2, 9)), area)
            for area in (49, 16, 49)]


@cache
def lesioned(silent: frozenset[tuple[int, int]] = frozenset()) -> float:
    """Accuracy of the zoo's LightViT where these pairs (block, global token) hand back nothing."""
    model = checkpoint.load("zoo:lab_lightvit/shapes")
    blocks = [part for stage in model.stages for part in stage if hasattr(part, "attn")]
    for number, block in enumerate(blocks):
        tokens = torch.tensor([token for place, token in silent if place == number]).long()
        block.attn.kv_global.register_forward_hook(
            lambda _, inputs, output, tokens=tokens:
            output.index_fill(1, tokens.to(output.device), 0.0))
    return training.evaluate(model, data.load("shapes", "val", count=128)).accuracy


def judge_lesion(answer: Any) -> tuple[str, str]:
    """Pairs of block and global token: at least 12, and at most three points lost."""
    silent = pairs(answer, range(4), range(4))
    if silent is None:
        return "form", "Give a list of pairs (block, global token), whole numbers from 0 to 3."
    right, wanted = lesioned(silent), lesioned() - 0.03
    lost = "" if right >= wanted else "first" if len(silent & BLOCK_0) > 2 else "voices"
    return (lost or ("few" if len(silent) < 12 else ""),
            f"{len(silent)} of 16 are silent, at least 12 must be; the accuracy is {right:.1%}, at "
            f"least {wanted:.1%} is wanted.")


BLOCK_0 = frozenset((0, token) for token in range(4))


EXERCISES = (
    Exercise("lightvit.reach", points=1, minutes=3),
    Exercise("lightvit.windows", 3, 15, maps, tolerance=1e-4, names={"attend": attend}),
    Exercise("lightvit.aggregate_and_broadcast", 3, 15, heads, tolerance=1e-4),
    Exercise("lightvit.gates", points=2, minutes=10, cases=gates),
    Exercise("lightvit.attention_macs", points=3, minutes=12, cases=stages),
    Exercise("lightvit.budget", points=2, minutes=6),
    Exercise("lightvit.lesion", points=3, minutes=12, seconds=60,
             prepare=by_outcome(judge_lesion),
             names={"lesioned": lambda silent: lesioned(frozenset(silent))}),
)

OPEN = (OpenExercise("lightvit.needed", points=4, minutes=8),)
