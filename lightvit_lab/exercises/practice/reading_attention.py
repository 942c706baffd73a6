"""What the exercises of `chapters/practice/reading_attention` are tried on."""

from typing import Any

import torch
from torch import Generator, Tensor

from ...experiments import results
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome


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
    """A map of 4 x 4 patches, a mask of 16 x 16 pixels that cuts patches; below 0 on and off it."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[top:top + 6, left:left + 7] = True
    patch_map = torch.rand(4, 4, generator=generator) - 0.1
    patch_map[top // 4 + 1, left // 4 + 1] += 2
    patch_map[[top // 4, 3], [left // 4, 3]] = -0.5
    return patch_map, mask


# the scores of the stored run, those of a fresh model, and what drawing weights anew changed
RUN = results.load("reading_attention").data
STORED = {"rows": RUN["runs"][0]["trained"]["scores"], "fresh": RUN["fresh"]["scores"],
          "checked": RUN["runs"][0]["sanity"]}
MEASURES = ("pointing", "energy", "iou")


def judge_report(answer: Any) -> tuple[str, str]:
    """A map and a measure: beyond edges, centre, chance and a fresh model, and of this class."""
    given = [str(part).strip().casefold() for part in answer] if isinstance(
        answer, (tuple, list)) else []
    known = {name.casefold(): name for name in STORED["rows"]}
    if len(given) != 2 or given[0] not in known or given[1] not in MEASURES:
        return "form", f"Give a pair (map, measure), one of {list(known.values())} and {MEASURES}."
    name, measure = known[given[0]], given[1]
    low, idle = STORED["rows"][name][measure][1], {
        other: STORED["rows"][other][measure][2] for other in ("edges", "centre", "random")}
    best, fresh = max(idle, key=idle.get), STORED["fresh"][name][measure][2]
    head = STORED["checked"][name]["head"]
    own = "fresh" if low <= fresh else "class" if head >= 0.9 else ""
    fault = best if low <= idle[best] else own
    return fault, (f"{name}, {measure}: from {low:.2f}; {best} up to {idle[best]:.2f}, a fresh "
                   f"model up to {fresh:.2f}; with a new head the correlation is {head:.2f}.")


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
    Exercise("reading_attention.report", points=3, minutes=10,
             prepare=by_outcome(judge_report), names=STORED),
)

OPEN = (OpenExercise("reading_attention.tumour", points=4, minutes=8),)
