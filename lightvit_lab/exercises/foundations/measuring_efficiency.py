"""What the exercises of `chapters/foundations/measuring_efficiency` are tried on."""

import torch
from torch import Generator

from ..declaration import Exercise


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

EXERCISES = (
    Exercise("measuring_efficiency.share", 1, 5, digits=3, unit="percent", names=MACS),
    Exercise("measuring_efficiency.attention_macs", points=2, minutes=10,
             cases=lambda g: [shapes(g) for _ in range(3)]),
    Exercise("measuring_efficiency.ratio", points=2, minutes=10,
             cases=lambda g: [rounds(g, count) for count in (9, 14, 20)]),
    Exercise("measuring_efficiency.attainable", points=2, minutes=8, cases=layers),
    Exercise("measuring_efficiency.amdahl", points=1, minutes=4, digits=3),
)
