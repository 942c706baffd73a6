"""What the exercises of `chapters/dynamic/token_merging` are tried on."""

from __future__ import annotations

import torch

from ..declaration import Exercise


def _some_keys(generator: torch.Generator) -> list[tuple]:
    """Keys (tokens, dim), an even number of tokens, of very different lengths, and r."""
    return [(torch.randn(count, 3, generator=generator) * (0.2 + 4 * torch.rand(count, 1, generator=generator)), r)
            for count, r in ((12, 4), (20, 7))]


def _some_tokens(generator: torch.Generator) -> list[tuple]:
    """Tokens (N, d), sizes (N,) as numbers of patches, and into which of M each goes."""
    cases = []
    for count, left in ((6, 3), (11, 4)):
        places = torch.cat([torch.arange(left), torch.randint(left, (count - left,), generator=generator)])
        sizes = torch.randint(1, 6, (count,), generator=generator).float()
        sizes[0], sizes[left:] = 7.0, sizes[left:] + torch.arange(count - left)
        cases.append((torch.randn(count, 3, generator=generator), sizes, places))
    return cases


def _one_head(generator: torch.Generator) -> list[tuple]:
    """Queries, keys, values (N, d) of one head, and sizes (N,) from 1 on."""
    return [(*(torch.randn(count, dim, generator=generator) for _ in range(3)),
             1.0 + torch.randperm(count, generator=generator).float()) for count, dim in ((5, 4), (8, 9))]


def _two_merges(generator: torch.Generator) -> list[tuple]:
    """Tokens (L, d) that are left, and the places of two merges, (N,) numbers below M and (M,)
    numbers below L.
    """
    cases = []
    for many, some, few in ((12, 7, 4), (20, 11, 5)):
        first = torch.cat([torch.arange(some), torch.randint(some, (many - some,), generator=generator)])
        second = torch.cat([torch.arange(few), torch.randint(few, (some - few,), generator=generator)])
        cases.append((torch.randn(few, 3, generator=generator), first[torch.randperm(many, generator=generator)],
                      second.flip(0)))
    return cases


EXERCISES = (
    Exercise("token_merging.match", points=3, minutes=12, cases=_some_keys),
    Exercise("token_merging.mean", points=2, minutes=10, cases=_some_tokens),
    Exercise("token_merging.log_size", points=2, minutes=10, cases=_one_head),
    Exercise("token_merging.unmerge", points=2, minutes=8, cases=_two_merges),
    Exercise("token_merging.tokens_left", points=1, minutes=6),
    Exercise("token_merging.time_gain", points=2, minutes=8, tolerance=5e-3),
)
