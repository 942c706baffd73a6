"""Randomness without a past: generators that follow from (seed, purpose, number) alone.

What a step draws can be drawn again from its number: a resumed run replays nothing, and every
process of a run draws the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch

# purposes: the order of an epoch, the views of a step, the draws inside its forward
EPOCH, STEP, FORWARD = 0, 1, 2


def generator_for(seed: int, purpose: int, number: int) -> torch.Generator:
    """A generator on the CPU for use `number` of `purpose`; others give unrelated streams."""
    mixed = numpy.random.SeedSequence([seed, purpose, number]).generate_state(1, numpy.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed the global generators, on every device, for what a forward draws, such as dropout.

    Of several processes each draws its own, else all would drop the same units.
    """
    mixed = numpy.random.SeedSequence([seed, FORWARD, step, rank]).generate_state(2, numpy.uint32)
    first, second = mixed.tolist()
    torch.manual_seed((first << 32 | second) >> 1)      # some devices take 63 bits
    numpy.random.seed(first)
    random.seed(second)


@contextmanager
def same_states_afterwards() -> Iterator[None]:
    """Set the global random states back at the end, also after an exception."""
    states = random.getstate(), numpy.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
