"""Checks of the exercises in `chapters/foundations/measuring_efficiency`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median

import torch

from ..engine import Exercise, Mistake

Shape = tuple[int, ...]


def _attention_macs(query: Shape, key: Shape, value: Shape) -> int:
    batch, heads, queries, width = query
    return batch * heads * queries * key[2] * (width + value[3])


def _scores_only(query: Shape, key: Shape, value: Shape) -> int:
    return math.prod(query) * key[2]


def _one_head(query: Shape, key: Shape, value: Shape) -> int:
    return _attention_macs(query, key, value) // query[1]


def _square(query: Shape, key: Shape, value: Shape) -> int:
    return _attention_macs(query, query[:3] + key[3:], value)


def _operations(query: Shape, key: Shape, value: Shape) -> int:
    return 2 * _attention_macs(query, key, value)


def _same_width(query: Shape, key: Shape, value: Shape) -> int:
    return 2 * math.prod(query) * key[2]


def _shapes(generator: torch.Generator) -> list[tuple]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    cases = []
    for _ in range(3):
        batch, heads, queries, width = draw(2, 5), draw(2, 7), draw(10, 200), 8 * draw(2, 5)
        keys = draw(201, 300)
        cases.append(((batch, heads, queries, width), (batch, heads, keys, width), (batch, heads, keys, 2 * width)))
    return cases


def _ratio(first: Sequence[float], second: Sequence[float]) -> float:
    return median(one / two for one, two in zip(first, second))


def _ratio_inverted(first: Sequence[float], second: Sequence[float]) -> float:
    return _ratio(second, first)


def _ratio_of_means(first: Sequence[float], second: Sequence[float]) -> float:
    return mean(first) / mean(second)


def _ratio_of_medians(first: Sequence[float], second: Sequence[float]) -> float:
    return median(first) / median(second)


def _mean_of_ratios(first: Sequence[float], second: Sequence[float]) -> float:
    return mean(one / two for one, two in zip(first, second))


def _ratio_of_best(first: Sequence[float], second: Sequence[float]) -> float:
    return min(first) / min(second)


def _rounds(generator: torch.Generator) -> list[tuple]:
    """Two candidates in rounds of a machine that slows down and now and then stumbles."""
    def draw(count: int) -> list[float]:
        drift = torch.linspace(0, 2, count).exp()
        noise = (0.2 * torch.randn(2, count, generator=generator)).exp() * torch.tensor([[1.7], [1.0]])
        stumbles = 1 + 8 * (torch.rand(2, count, generator=generator) < 0.15)
        return [[round(value, 4) for value in row] for row in (drift * noise * stumbles).tolist()]

    return [tuple(draw(count)) for count in (9, 15, 21)]


def _attainable(macs: float, moved_bytes: float, peak: float, bandwidth: float) -> float:
    return min(peak, 2 * macs / moved_bytes * bandwidth)


def _attainable_macs(macs: float, moved_bytes: float, peak: float, bandwidth: float) -> float:
    return min(peak, macs / moved_bytes * bandwidth)


def _attainable_larger(macs: float, moved_bytes: float, peak: float, bandwidth: float) -> float:
    return max(peak, 2 * macs / moved_bytes * bandwidth)


def _attainable_no_roof(macs: float, moved_bytes: float, peak: float, bandwidth: float) -> float:
    return 2 * macs / moved_bytes * bandwidth


def _attainable_always_peak(macs: float, moved_bytes: float, peak: float,
                            bandwidth: float) -> float:
    return peak


def _attainable_upside_down(macs: float, moved_bytes: float, peak: float,
                            bandwidth: float) -> float:
    return min(peak, moved_bytes / (2 * macs) * bandwidth)


def _layers(generator: torch.Generator) -> list[tuple]:
    scale = float(1 + torch.rand((), generator=generator))
    return [(scale * 1e9, 2e8, 8e10, 1e10), (scale * 1e6, 1e7, 8e10, 1e10), (scale * 4e9, 1e8, 5e10, 2e10)]


EXERCISES = (
    Exercise(
        id="measuring_efficiency.share", prompt="Share of DeiT-Tiny's MACs that are attention's own products, in percent",
        solution=14.2645, cases=None, tolerance=2.4e-3, points=1, minutes=5, mistakes=(
            Mistake("one product", 7.1323, "You counted one product. Attention has two: the scores, and the mean they take.",
                    "$2 N^2 d$ in each block, not $N^2 d$."),
            Mistake("beside the rest", 16.6378, "You divided by the other MACs. A share is a part of the whole.",
                    "Put attention's products into the denominator, too."),
            Mistake("as operations", 28.529, "Twice too much: the part is in FLOPs, the whole in MACs.",
                    "Count both in MACs."),
            Mistake("as a share", 0.142645, "Right, as a share between 0 and 1. We asked for percent.", "Multiply by 100."),
            Mistake("no class token", 14.2007, "Very close. How many tokens pass through the blocks? There is one that is no patch.",
                    "197 tokens: 14 x 14 patches and the class token."),
        )),
    Exercise(
        id="measuring_efficiency.attention_macs", prompt="MACs of scaled dot-product attention from three shapes",
        solution=_attention_macs, cases=_shapes, points=2, minutes=10, mistakes=(
            Mistake("scores only", _scores_only, "These are the scores. What is done with them costs as much again, or more.",
                    "The second product takes means of values: (queries x keys) times (keys x width of a value)."),
            Mistake("one head", _one_head, "This is one head of them all.", "Multiply by query[1], the number of heads."),
            Mistake("as many keys as queries", _square, "You squared the queries. There may be fewer keys than queries, or more.",
                    "Queries are query[2], keys are key[2]: multiply the two."),
            Mistake("operations", _operations, "Exactly twice too much: these are FLOPs.", "A multiply-accumulate counts once."),
            Mistake("width of the query twice", _same_width, "The second product is as wide as a value, which need not be as wide "
                    "as a query.", "Use value[3] for the second product."),
        )),
    Exercise(
        id="measuring_efficiency.ratio", prompt="How many times as long? From the rounds of two candidates", solution=_ratio,
        cases=_rounds, points=2, minutes=10, mistakes=(
            Mistake("inverted", _ratio_inverted, "Upside down: how many times as long as the second does the first take?",
                    "Divide the first by the second."),
            Mistake("ratio of means", _ratio_of_means, "A few stumbles of the machine rule your means.",
                    "Take the ratio in each round first, then the median of these ratios."),
            Mistake("ratio of medians", _ratio_of_medians, "Better than means. But the machine slowed down meanwhile, and the two "
                    "medians may come from different rounds.", "Swap the two steps: first divide, round by round, then take one median."),
            Mistake("mean of ratios", _mean_of_ratios, "Ratios within rounds are right. One stumble still moves their mean as far as "
                    "it likes.", "Use the middle one of the sorted ratios."),
            Mistake("ratio of the best", _ratio_of_best, "The best calls may lie far apart in time, when the machine was not the same.",
                    "Compare only what was measured in the same round, and let the middle of those ratios speak."),
        )),
    Exercise(
        id="measuring_efficiency.attainable", prompt="FLOP/s that a layer can reach on a machine", solution=_attainable,
        cases=_layers, points=2, minutes=8, mistakes=(
            Mistake("MACs for FLOPs", _attainable_macs, "A factor of two is missing where memory is the limit.",
                    "The peak is in FLOP/s, so the intensity is FLOPs for each byte: 2 x MACs / bytes."),
            Mistake("the larger", _attainable_larger, "A layer can't be faster than either limit allows.", "Take the smaller of the two."),
            Mistake("no roof", _attainable_no_roof, "However much is done with each byte, the processor has a peak.",
                    "Take the minimum with the peak."),
            Mistake("always the peak", _attainable_always_peak, "This is the processor's limit. Where do the numbers come from?",
                    "Bytes arrive at `bandwidth` a second, and each brings 2 x MACs / bytes FLOPs."),
            Mistake("upside down", _attainable_upside_down, "Your intensity is bytes for each FLOP: the more a layer computes, the "
                    "slower you make it.", "FLOPs divided by bytes, times the bandwidth."),
        )),
    Exercise(
        id="measuring_efficiency.amdahl", prompt="70 % of the time, four times as fast: the gain of the whole", points=1, minutes=4,
        solution=1 / (0.3 + 0.7 / 4), cases=None, tolerance=5e-3, mistakes=(
            Mistake("70 % of the gain", 2.8, "That is 70 % of four. Think in time: what is left of one second?",
                    "0.3 s stay as they are; of 0.7 s a quarter is left."),
            Mistake("mean of gains", 3.1, "You took the mean of two gains. Times add up, gains do not.",
                    "Add the two times that are left, then divide one by the sum."),
            Mistake("for nothing", 1 / 0.3, "This would be the gain if the 70 % took no time at all.", "A quarter of them is left: 0.175."),
            Mistake("the wrong part", 1 / (0.7 + 0.3 / 4), "You made the other 30 % faster.", "It is the 70 % that go four times as fast."),
            Mistake("time left", 0.475, "This is the time that is left of one second. How many times as fast is that?",
                    "One divided by it."),
        )),
)
