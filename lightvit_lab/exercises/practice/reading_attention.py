"""What the exercises of `chapters/practice/reading_attention` are tried on."""

import torch
from torch import Generator, Tensor

from ..declaration import Exercise


def thinned(generator: Generator) -> Tensor:
    """Attention of two heads, five tokens, some entries discarded: rows do not sum to 1."""
    weights = (2 * torch.randn(2, 5, 5, generator=generator)).softmax(dim=-1)
    return weights * (torch.rand(2, 5, 5, generator=generator) > 0.3)


def blocks(generator: Generator) -> tuple:
    """Thinned attention of three blocks, in a list."""
    return ([thinned(generator) for _ in range(3)],)


def flow(generator: Generator, tokens: int) -> Tensor:
    """Rows of a rollout, (tokens, tokens), the class token's the first."""
    return (2 * torch.randn(tokens, tokens, generator=generator)).softmax(dim=-1)


def step(generator: Generator) -> tuple:
    """Weights and gradient of three heads and six tokens, and the relevance of the blocks below."""
    weights, gradient = (torch.randn(3, 6, 6, generator=generator) for _ in range(2))
    below = torch.eye(6) + torch.randn(6, 6, generator=generator).abs()
    return weights.softmax(dim=-1), gradient, below


def map_and_mask(generator: Generator, left: int, top: int) -> tuple:
    """A map of 4 x 4 patches, a peak, some below 0; a mask of 16 x 16 pixels that cuts patches."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[top:top + 6, left:left + 7] = True
    patch_map = torch.rand(4, 4, generator=generator) - 0.1
    patch_map[top // 4 + 1, left // 4 + 1] += 2
    return patch_map, mask


EXERCISES = (
    Exercise("reading_attention.residual", 1, 5, digits=3, unit="percent"),
    Exercise("reading_attention.rollout", points=3, minutes=15,
             cases=lambda g: [blocks(g) for _ in range(3)]),
    Exercise("reading_attention.patches", points=1, minutes=6,
             cases=lambda g: [(flow(g, 10),), (flow(g, 17),)]),
    Exercise("reading_attention.relevance", points=2, minutes=10,
             cases=lambda g: [step(g) for _ in range(3)]),
    Exercise("reading_attention.energy", points=2, minutes=10,
             cases=lambda g: [map_and_mask(g, *at) for at in ((3, 5), (6, 2), (1, 7))]),
)
