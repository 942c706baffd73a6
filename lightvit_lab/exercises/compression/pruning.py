"""What the exercises of `chapters/compression/pruning` are tried on."""

from functools import cache, partial
from typing import Any

import torch
from torch import Generator, nn

from ... import checkpoint, data, training
from ...compression.pruning import prune_mlp
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


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


def neurons(model: nn.Module) -> int:
    """Neurons of all its MLPs."""
    return sum(block.mlp.fc1.out_features for block in model.blocks)


@cache
def without(*ratios: float) -> tuple[float, float]:
    """Of the zoo's model without these shares of its neurons: the share that stays, accuracy."""
    vit, val = checkpoint.load("zoo:lab_vit_teacher/shapes"), data.load("shapes", "val", count=256)
    small = prune_mlp(vit, {f"blocks.{i}.mlp": ratio for i, ratio in enumerate(ratios)})
    return neurons(small) / neurons(vit), training.evaluate(small, val).accuracy


def judge_ratios(answer: Any) -> tuple[str, str]:
    """Ratios of six blocks: at most 10 % of the neurons stay, 1.5 points above 0.9 everywhere."""
    ratios = numbers(answer, range(6))
    if ratios is None or not all(0 <= ratio <= 0.997 for ratio in ratios):
        return "form", "Give six ratios, one for each block, from 0 to 0.997, the shares removed."
    (stay, right), wanted = without(*ratios), without(*[0.9] * 6)[1] + 0.015
    poor = "" if right >= wanted else "first" if ratios[0] > sum(ratios) / 6 + 0.01 else "alike"
    over = "shares kept" if sum(ratios) < 2 else "over"
    return (over if stay > 0.1 else poor,
            f"{stay:.1%} of the neurons stay, at most 10 % are allowed; {right:.1%} right, at "
            f"least {wanted:.1%} are wanted.")


EXERCISES = (
    Exercise("pruning.neurons", points=2, minutes=8, cases=two_layers),
    Exercise("pruning.two_four", points=2, minutes=10, cases=weights),
    Exercise("pruning.scale", points=1, minutes=5, digits=2),
    Exercise("pruning.compensation", points=3, minutes=15, cases=layers, tolerance=1e-4),
    Exercise("pruning.realisation", points=1, minutes=5, digits=2, unit="share"),
    Exercise("pruning.budget", points=2, minutes=8, digits=2, unit="share"),
    Exercise("pruning.ratios", points=3, minutes=12, seconds=60,
             prepare=by_outcome(judge_ratios),
             names={"without": lambda ratios: without(*ratios)}),
)

OPEN = (OpenExercise("pruning.why_not_faster", points=4, minutes=8),)
