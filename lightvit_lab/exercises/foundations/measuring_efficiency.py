"""What the exercises of `chapters/foundations/measuring_efficiency` are tried on."""

from typing import Any

import torch
from torch import Generator

from ... import survey
from ...experiments import results
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome


def shapes(generator: Generator) -> tuple:
    """Shapes of queries, keys and values; keys may be more or fewer, values are wider."""
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    batch, heads, queries, width = draw(2, 5), draw(2, 7), draw(10, 200), 8 * draw(2, 5)
    key = (batch, heads, draw(201, 300) if draw(0, 3) else queries // 2, width)
    return (batch, heads, queries, width), key, (*key[:3], width + 8 * draw(1, 5))


def rounds(generator: Generator, count: int) -> tuple:
    """Two candidates in rounds of a machine that slows down and now and then stumbles."""
    drift = torch.linspace(0, 2, count).exp()
    noise = (0.2 * torch.randn(2, count, generator=generator)).exp() * torch.tensor([[1.7], [1.0]])
    stumbles = 1 + 8 * (torch.rand(2, count, generator=generator) < 0.15)
    one, two = (drift * noise * stumbles).tolist()
    return [round(value, 4) for value in one], [round(value, 4) for value in two]


def layers(generator: Generator) -> list[tuple]:
    """MACs and bytes of a layer, FLOP/s and bytes a second of a machine."""
    scale = float(1 + torch.rand((), generator=generator))
    return [(scale * 1e9, 2e8, 8e10, 1e10), (scale * 1e6, 1e7, 8e10, 1e10),
            (scale * 4e9, 1e8, 5e10, 2e10)]


# DeiT-Tiny's MACs, as the page counts them: tokens, width, blocks
N, D, L = 197, 192, 12
MACS = {"layers": 196 * 768 * D + L * 12 * N * D**2 + D * 1000, "attention": L * 2 * N**2 * D}

# the stored run of light models, and what was published of them
LIGHT = results.load("light_models").data
STORED = {"rows": LIGHT["models"], "batch": LIGHT["batch_size"],
          "paper": {row.model.partition(".")[0]: row for row in survey.published()}}


def judge_model(answer: Any) -> tuple[str, str]:
    """The name of a light model: in time one by one and in batches, and accurate enough."""
    name = answer.strip().casefold() if isinstance(answer, str) else ""
    if name not in STORED["rows"]:
        return "form", f"Give one of these names: {', '.join(sorted(STORED['rows']))}."
    row, top1 = STORED["rows"][name], STORED["paper"][name].top1
    alone, in_batch = row["one"]["p90_ms"], row["batch"]["latency_ms"] / STORED["batch"]
    fault = "slow" if alone > 33 else "batch" if in_batch > 40 else "poor" if top1 < 75 else ""
    return fault, (f"{name}: p90 of {alone:.1f} ms alone, at most 33; {in_batch:.1f} ms a picture "
                   f"in batches, at most 40; top-1 {top1:.1f} %, at least 75 %.")


EXERCISES = (
    Exercise("measuring_efficiency.share", 1, 5, digits=3, unit="percent", names=MACS),
    Exercise("measuring_efficiency.attention_macs", points=2, minutes=10,
             cases=lambda g: [shapes(g) for _ in range(3)]),
    Exercise("measuring_efficiency.ratio", points=2, minutes=10,
             cases=lambda g: [rounds(g, count) for count in (9, 14, 20)]),
    Exercise("measuring_efficiency.attainable", points=2, minutes=8, cases=layers),
    Exercise("measuring_efficiency.amdahl", points=1, minutes=4, digits=3),
    Exercise("measuring_efficiency.choose", points=2, minutes=8,
             prepare=by_outcome(judge_model), names=STORED),
)

OPEN = (OpenExercise("measuring_efficiency.disagree", points=4, minutes=8),)
