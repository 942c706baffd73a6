"""What the exercises of `chapters/compression/low_rank` are tried on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def as_one_layer(answer: Callable[..., tuple]) -> Callable[..., tuple[int, Tensor, Tensor]]:
    """The thin layers' rank, product and bias: what does not hang on how the answer splits."""
    def used(weight: Tensor, bias: Tensor, rank: int) -> tuple[int, Tensor, Tensor]:
        first, second, kept = answer(weight, bias, rank)
        return len(first), second @ first, kept
    return used


def layers(generator: Generator) -> list[tuple]:
    """Weights of several shapes, biases and a rank below the full one, in float64."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return [(draw(out, into), draw(out), rank)
            for out, into, rank in ((7, 5, 2), (5, 8, 3), (12, 6, 2))]


def spectra(generator: Generator) -> list[tuple]:
    """Singular values, falling about as those of whitened weights do, and a share of energy.

    The last share is reached exactly.
    """
    def falling(count: int, fall: float) -> Tensor:
        wobble = 1 + 0.1 * torch.rand(count, generator=generator, dtype=torch.float64)
        return (fall ** torch.arange(count) * wobble).sort(descending=True).values

    exact = torch.tensor([3.0, 2, 1, 1, 1]).double()      # squares that sum to 16
    scale = 2.0 ** torch.randint(-3, 4, (1,), generator=generator)
    return [(falling(24, 0.93), 0.9), (falling(30, 0.95), 0.8), (falling(40, 0.97), 0.85),
            (falling(36, 0.96), 0.7), (scale * exact, 13 / 16)]


def inputs(generator: Generator) -> list[tuple]:
    """A weight, the second moment of correlated inputs, and a rank, in float64."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    found = []
    for out, into, rank in ((9, 6, 2), (5, 8, 3), (10, 7, 3)):
        seen = draw(60, into) @ draw(into, into) + draw(into)
        found.append((draw(out, into), seen.T @ seen / len(seen), rank))
    return found


def keys(generator: Generator) -> list[tuple]:
    """Keys (B, heads, rank ** 2, d): all tokens but the first divide by rank - 1, all by rank."""
    return [(torch.randn(batch, 2, rank**2, 3, generator=generator), rank)
            for batch, rank in ((2, 3), (1, 4), (2, 5))]


def to_share(generator: Generator) -> tuple:
    """Spectra (40,) that fall at different rates, what a unit of rank costs, and a budget."""
    spectra, costs = [], [1920, 192, 384, 1920, 480]
    for least, most in ((0.72, 0.78), (0.96, 0.98), (0.94, 0.96), (0.88, 0.92), (0.8, 0.86)):
        draw = torch.rand(41, generator=generator, dtype=torch.float64)
        falls = (least + (most - least) * draw[0]) ** torch.arange(40) * (1 + draw[1:] / 10)
        spectra.append(falls.sort(descending=True).values)
    return spectra, costs, int(0.22 * 40 * sum(costs))


def kept_energy(spectra: list[Tensor], ranks: list[int]) -> float:
    """The share of the energy that layers of these ranks keep, averaged over layers."""
    shares = [values.square()[:rank].sum() / values.square().sum()
              for values, rank in zip(spectra, ranks)]
    return sum(shares).item() / len(shares)


def judge_ranks(answer: Any, spectra: list[Tensor], costs: list[int],
                budget: int) -> tuple[str, str]:
    """Ranks within the budget that keep as much energy, but for 1.5 points, as the best found."""
    found = numbers(answer, range(len(spectra)))
    if found is None or any(rank not in range(len(spectra[0]) + 1) for rank in found):
        return "form", "Return one whole rank for each layer, from 0 to its number of values."
    ranks, spent = list(map(int, found)), sum(rank * cost for rank, cost in zip(found, costs))
    kept = kept_energy(spectra, ranks)
    best = kept_energy(spectra, best_ranks(spectra, costs, budget))
    poor = "equal" if len(set(ranks)) == 1 else "idle" if spent < 0.85 * budget else "dear"
    return ("over" if spent > budget else "" if kept >= best - 0.015 else poor,
            f"Ranks {ranks}: {spent:,.0f} parameters of {budget:,}, {kept:.1%} of the energy kept, "
            f"{best:.1%} is possible.")


def best_ranks(spectra: list[Tensor], costs: list[int], budget: int) -> list[int]:
    """The most energy for a price: ranks by one threshold of energy for a parameter, bisected."""
    def ranks_at(price: float) -> list[int]:
        return [int((values.square() / values.square().sum() / cost > price).sum())
                for values, cost in zip(spectra, costs)]

    low, high = 0.0, 1.0
    for _ in range(60):
        price = (low + high) / 2
        dear = sum(rank * cost for rank, cost in zip(ranks_at(price), costs)) > budget
        low, high = (price, high) if dear else (low, price)
    return ranks_at(high)


EXERCISES = (
    Exercise("low_rank.break_even", points=1, minutes=4),
    Exercise("low_rank.factors", points=2, minutes=10, cases=layers, prepare=as_one_layer),
    Exercise("low_rank.energy", points=2, minutes=8, cases=spectra),
    Exercise("low_rank.whitened", points=3, minutes=15, cases=inputs, tolerance=1e-6),
    Exercise("low_rank.segments", points=2, minutes=8, cases=keys),
    Exercise("low_rank.budget", points=1, minutes=6, digits=3),
    Exercise("low_rank.allocate", points=3, minutes=15, prepare=by_outcome(judge_ranks),
             cases=lambda g: [to_share(g) for _ in range(3)]),
)

OPEN = (OpenExercise("low_rank.linear", points=4, minutes=8),)
