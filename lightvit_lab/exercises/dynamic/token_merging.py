"""What the exercises of `chapters/dynamic/token_merging` are tried on."""

from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ... import checkpoint, data, profiling
from ...dynamic.token_merging import merge_tokens
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def keys(generator: Generator, count: int, r: int) -> tuple:
    """Keys (tokens, dim), an even number of tokens, of very different lengths, and r.

    One of A is like two of B, another one is like the first of those, too, and one is the opposite.
    """
    directions = torch.randn(count, 3, generator=generator)
    alike = torch.randperm(count // 2, generator=generator)[:3] * 2
    places = torch.cat([alike, alike[:2] + 1])
    wobble = 0.1 * torch.randn(5, 3, generator=generator)
    signs = torch.tensor([1, 1, -1, 1, 1])[:, None]
    directions[places] = signs * (torch.tensor([3.0, 1.0, 2.0]).roll(r) + wobble)
    return directions * (0.2 + 4 * torch.rand(count, 1, generator=generator)), r


def places(generator: Generator, many: int, few: int) -> Tensor:
    """(many,) numbers below few: into which token each goes. Every one of the few gets some."""
    return torch.cat([torch.arange(few), torch.randint(few, (many - few,), generator=generator)])


def tokens(generator: Generator, count: int, left: int) -> tuple:
    """Tokens (N, d), sizes (N,) as numbers of patches, and into which of M each goes."""
    goes = places(generator, count, left)
    sizes = torch.randint(1, 6, (count,), generator=generator).float()
    sizes[0], sizes[left:] = 7.0, sizes[left:] + torch.arange(count - left)
    return torch.randn(count, 3, generator=generator), sizes, goes


def one_head(generator: Generator, count: int, dim: int) -> tuple:
    """Queries, keys, values (N, d) of one head, and sizes (N,) from 1 on."""
    return (*(torch.randn(count, dim, generator=generator) for _ in range(3)),
            1.0 + torch.randperm(count, generator=generator))


def two_merges(generator: Generator, many: int, some: int, few: int) -> tuple:
    """Tokens (L, d) that are left, and places of two merges: (N,) below M and (M,) below L.

    The first places beyond L that `first` and `first[second]` name are two different ones.
    """
    first, second = places(generator, many, some), places(generator, some, few)
    left, second = torch.randn(few, 3, generator=generator), second.flip(0)
    first = first[torch.randperm(many, generator=generator)]
    first, second[0] = torch.cat([torch.tensor([some - 1, some - 2]), first]), 1
    return left, first, second


@cache
def unmerged() -> tuple[nn.Module, int, Tensor, Tensor]:
    """The zoo's model, its MACs, pictures, and its logits, (128, classes)."""
    vit = checkpoint.load("zoo:lab_vit_teacher/shapes")
    pictures = data.load("shapes", "val", count=128).inputs
    with torch.no_grad():
        return vit, profiling.count(vit, (3, 32, 32)).macs, pictures, vit(pictures)


@cache
def merging(*plan: int) -> tuple[float, float]:
    """Of the zoo's model that merges by this plan: share of the MACs, drift of the logits."""
    vit, macs, pictures, whole = unmerged()
    merged = merge_tokens(vit, r=list(plan))
    with torch.no_grad():
        now = merged(pictures)
    left = profiling.count(merged, (3, 32, 32)).macs / macs
    return left, ((now - whole).norm() / whole.norm()).item()


def judge_plan(answer: Any) -> tuple[str, str]:
    """Six numbers of pairs: at most 59 % of the MACs, two thirds of what an early plan drifts."""
    plan = numbers(answer, range(6))
    if plan is None or any(r < 0 or r != int(r) for r in plan):
        return "form", "Give six whole numbers, one for each block, of pairs to merge."
    (macs, apart), wanted = merging(*map(int, plan)), merging(20, 20, 0, 0, 0, 0)[1] * 2 / 3
    far = "" if apart <= wanted else "greedy" if macs < 0.52 else "early"
    return ("over" if macs > 0.59 else far,
            f"{macs:.1%} of the MACs, at most 59 % are allowed; the logits drift by {apart:.1%}, "
            f"at most {wanted:.1%} are wanted.")


EXERCISES = (
    Exercise("token_merging.match", points=3, minutes=12,
             cases=lambda g: [keys(g, 12, 4), keys(g, 20, 7)]),
    Exercise("token_merging.mean", points=2, minutes=10,
             cases=lambda g: [tokens(g, 6, 3), tokens(g, 11, 4)]),
    Exercise("token_merging.log_size", points=2, minutes=10,
             cases=lambda g: [one_head(g, 5, 4), one_head(g, 8, 9)]),
    Exercise("token_merging.unmerge", points=2, minutes=8,
             cases=lambda g: [two_merges(g, 24, 16, 4), two_merges(g, 40, 22, 5)]),
    Exercise("token_merging.tokens_left", points=1, minutes=6),
    Exercise("token_merging.time_gain", points=2, minutes=8, digits=2),
    Exercise("token_merging.plan", points=3, minutes=15, seconds=60,
             prepare=by_outcome(judge_plan), names={"merging": lambda plan: merging(*plan)}),
)

OPEN = (OpenExercise("token_merging.which", points=4, minutes=8),)
