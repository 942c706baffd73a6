"""Randomness without a past: generators that follow from (seed, what for, number), and the global
states of a run.

Whatever is drawn for a step can be drawn again from its number alone: a resumed run replays
nothing, and every process of a run draws the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch

# what is drawn: the order of an epoch, the views of a step, inside its forward
EPOCH, STEP, FORWARD = 0, 1, 2


def generator_for(seed: int, purpose: int, number: int) -> torch.Generator:
    """A generator on the CPU for `purpose` (EPOCH or STEP) and its `number`; other arguments give
    unrelated streams.
    """
    mixed = numpy.random.SeedSequence([seed, purpose, number]).generate_state(1, numpy.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed the global generators, on every device, for what a forward draws: dropout, drop path,
    gates, Gumbel noise.

    Of several processes each draws its own, else all would drop the same units.
    """
    first, second = numpy.random.SeedSequence([seed, FORWARD, step, rank]).generate_state(2, numpy.uint32).tolist()
    torch.manual_seed((first << 32 | second) >> 1)      # some devices take 63 bits
    numpy.random.seed(first)
    random.seed(second)


@contextmanager
def same_states_afterwards() -> Iterator[None]:
    """Set the global random states back at the end, also after an exception."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)


def random_states() -> dict[str, Any]:
    """Global random states of Python, numpy, torch and CUDA, in types that
    `torch.load(weights_only=True)` reads.
    """
    numpys = numpy.random.get_state(legacy=False)
    numpys["state"]["key"] = torch.from_numpy(numpys["state"]["key"].astype(numpy.int64))
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"python": random.getstate(), "numpy": numpys, "torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the global random states to what `random_states` returned."""
    key = states["numpy"]["state"]["key"].numpy().astype(numpy.uint32)
    numpy.random.set_state({**states["numpy"], "state": {**states["numpy"]["state"], "key": key}})
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
