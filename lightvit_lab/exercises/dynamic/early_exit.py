"""What the exercises of `chapters/dynamic/early_exit` are tried on."""

from bisect import bisect_left
from typing import Any

import torch
from torch import Generator, Tensor

from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def uniform(generator: Generator, count: int) -> Tensor:
    """(count,) numbers between 0 and 1."""
    return torch.rand(count, generator=generator)


def leavings(generator: Generator, ends: int) -> tuple:
    """Exits that pictures took, (N,), most the first or the last, and MACs, rising unevenly."""
    macs = (10**6 * (1 + uniform(generator, ends))).long().cumsum(0)
    others = torch.randint(1, ends, (2,), generator=generator)
    exits = torch.cat([torch.tensor(14 * [0] + 4 * [1] + 13 * [ends - 1]), others])
    return exits[torch.randperm(len(exits), generator=generator)], macs


def named(generator: Generator) -> list[tuple]:
    """Classes that exits name, (exits, N), in runs that break; and how many must agree."""
    return [(torch.randint(classes, (exits, 40), generator=generator), agree)
            for classes, exits, agree in ((3, 5, 2), (2, 7, 3), (3, 6, 2), (2, 4, 4))]


def validation(generator: Generator, beyond: bool) -> tuple:
    """Confidences, whether exit and end are right, a reachable accuracy, rising thresholds.

    Confidences lie on thresholds; the first threshold that reaches the accuracy just reaches it,
    and a larger one is less accurate again. `beyond`: the end alone does not reach it.
    """
    thresholds = torch.arange(66) / 64
    while True:
        sure = torch.randint(16, 64, (64,), generator=generator) / 64
        early, end = uniform(generator, 64) < 0.3 + 0.7 * sure**2, uniform(generator, 64) < 0.9
        right = torch.where(sure >= thresholds[:, None], early, end).float().mean(dim=1).tolist()
        for first in (place for place in range(1, 66) if right[place] > max(right[:place])):
            wanted = right[first]
            below = [place for place, one in enumerate(right) if one < wanted]
            halved = {bisect_left(right, wanted, hi=stop) for stop in (65, 66)}
            if (first < below[-1] and (wanted > right[-1]) == beyond
                    and not halved & {first, below[-1] + 1}):
                return sure, early, end, wanted, thresholds


def confidences(generator: Generator, bins: int) -> tuple:
    """Confidences (N,) off bins' edges, and whether right: some bins too sure, some too little.

    One bin is empty, and of the last bin some are quite sure, 1.0, and half of those are wrong.
    """
    place = torch.randint(bins - 1, (300,), generator=generator)
    place[place >= torch.randint(1, bins - 1, (1,), generator=generator)] += 1
    sure = (place + 0.1 + 0.8 * uniform(generator, 300)) / bins
    right = (uniform(generator, 300) < 0.3 + 0.4 * sure) | (place == bins - 1)
    sure[:20], right[:20] = 1.0, torch.arange(20) < 10
    return sure, right, bins


def scores(generator: Generator) -> list[tuple]:
    """Halting scores (blocks,): some reach one on the way, some only because the blocks end.

    One sum comes to 0.995 before it reaches one, one to 0.95.
    """
    drawn = [size * (0.5 + uniform(generator, blocks))
             for blocks, size in ((6, 0.35), (6, 0.08), (12, 0.2), (4, 0.55), (6, 0.1), (5, 0.1))]
    for near, one in zip((0.995, 0.95), drawn[-2:]):
        one[:3] *= near / one[:3].sum()
    return [(one,) for one in drawn]


# how hard a picture of the frequent and of the rare sort may be for exit 0, exit 1 and the end
REACH = torch.tensor([[0.90, 0.30], [0.89, 0.92], [0.99, 0.95]], dtype=torch.float64)


def two_sorts(generator: Generator) -> tuple:
    """Confidences, whether right, sorts of pictures, one rare, costs, budget, thresholds."""
    sort, hard = (uniform(generator, 1200) > 0.88).long(), uniform(generator, 1200)
    noise = 0.2 * uniform(generator, 2400).view(2, -1) - 0.1
    macs = torch.tensor([30.0, 50.0, 80.0]).double() * (1 + 0.2 * uniform(generator, 1))
    return ((1 - hard / 2 + noise).clamp(max=1), hard < REACH[:, sort], sort, macs,
            0.62 * macs[2].item(), torch.linspace(0.4, 1.06, 12, dtype=torch.float64))


def led_to(first: float, second: float, sure: Tensor, right: Tensor, sort: Tensor,
           macs: Tensor) -> tuple[float, float, float]:
    """Accuracy of the worst sort, accuracy, mean cost."""
    taken = torch.where(sure[0] >= first, 0, torch.where(sure[1] >= second, 1, 2))
    hits = right.gather(0, taken[None])[0].double()
    worst = min(hits[sort == one].mean().item() for one in (0, 1))
    return worst, hits.mean().item(), macs[taken].mean().item()


def judge_fair(answer: Any, sure: Tensor, right: Tensor, sort: Tensor, macs: Tensor,
               budget: float, thresholds: Tensor) -> tuple[str, str]:
    """Within the budget, the worst sort within two points of the best that thresholds allow."""
    chosen, given = numbers(answer, range(2)), (sure, right, sort, macs)
    if chosen is None:
        return "form", "Return two numbers, the thresholds of the two exits."
    worst, mean, cost = led_to(*chosen, *given)
    found = (led_to(*pair, *given) for pair in torch.cartesian_prod(thresholds, thresholds))
    best = max((one for one in found if one[2] <= budget), key=lambda one: one[0])
    poor = "" if worst >= best[0] - 0.02 else "rash" if cost < 0.8 * budget else "unfair"
    return ("over" if cost > budget * (1 + 1e-9) else poor,
            f"{cost:.1f} million MACs on average, at most {budget:.1f} are allowed; {mean:.1%} "
            f"right, {worst:.1%} of the worst sort, where {best[0]:.1%} is possible.")


EXERCISES = (
    Exercise("early_exit.mean_cost", points=1, minutes=5, tolerance=1e-6,
             cases=lambda g: [leavings(g, ends) for ends in (6, 5, 3)]),
    Exercise("early_exit.patience", points=2, minutes=12, cases=named),
    Exercise("early_exit.threshold", points=2, minutes=12,
             cases=lambda g: [validation(g, beyond) for beyond in (False, True, False)]),
    Exercise("early_exit.ece", points=2, minutes=10,
             cases=lambda g: [confidences(g, bins) for bins in (5, 10, 4)]),
    Exercise("early_exit.halting", points=2, minutes=12, cases=scores),
    Exercise("early_exit.unused", points=1, minutes=8, digits=3, unit="percent"),
    Exercise("early_exit.fair", points=3, minutes=15, seconds=30,
             prepare=by_outcome(judge_fair), cases=lambda g: [two_sorts(g) for _ in range(2)]),
)

OPEN = (OpenExercise("early_exit.would_you", points=4, minutes=8),)
