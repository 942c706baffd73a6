"""Known wrong answers to the exercises of `chapters/foundations/measuring_efficiency`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median
from .. import Mistake


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


MISTAKES = {
    "measuring_efficiency.share": (
        Mistake("one product", "You counted one product. Attention has two: the scores, and the mean they take.",
                "$2 N^2 d$ in each block, not $N^2 d$.", answer=7.1323),
        Mistake("beside the rest", "You divided by the other MACs. A share is a part of the whole.",
                "Put attention's products into the denominator, too.", answer=16.6378),
        Mistake("as operations", "Twice too much: the part is in FLOPs, the whole in MACs.",
                "Count both in MACs.", answer=28.529),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", answer=0.142645),
        Mistake("no class token", "Very close. How many tokens pass through the blocks? There is one that is no patch.",
                "197 tokens: 14 x 14 patches and the class token.", answer=14.2007),
    ),
    "measuring_efficiency.attention_macs": (
        Mistake("scores only", "These are the scores. What is done with them costs as much again, or more.",
                "The second product takes means of values: (queries x keys) times (keys x width of a value).", answer=_scores_only),
        Mistake("one head", "This is one head of them all.",
                "Multiply by query[1], the number of heads.", answer=_one_head),
        Mistake("as many keys as queries", "You squared the queries. There may be fewer keys than queries, or more.",
                "Queries are query[2], keys are key[2]: multiply the two.", answer=_square),
        Mistake("operations", "Exactly twice too much: these are FLOPs.",
                "A multiply-accumulate counts once.", answer=_operations),
        Mistake("width of the query twice", "The second product is as wide as a value, which need not be as wide as a query.",
                "Use value[3] for the second product.", answer=_same_width),
    ),
    "measuring_efficiency.ratio": (
        Mistake("inverted", "Upside down: how many times as long as the second does the first take?",
                "Divide the first by the second.", answer=_ratio_inverted),
        Mistake("ratio of means", "A few stumbles of the machine rule your means.",
                "Take the ratio in each round first, then the median of these ratios.", answer=_ratio_of_means),
        Mistake("ratio of medians", "Better than means. But the machine slowed down meanwhile, and the two medians may come from different rounds.",
                "Swap the two steps: first divide, round by round, then take one median.", answer=_ratio_of_medians),
        Mistake("mean of ratios", "Ratios within rounds are right. One stumble still moves their mean as far as it likes.",
                "Use the middle one of the sorted ratios.", answer=_mean_of_ratios),
        Mistake("ratio of the best", "The best calls may lie far apart in time, when the machine was not the same.",
                "Compare only what was measured in the same round, and let the middle of those ratios speak.", answer=_ratio_of_best),
    ),
    "measuring_efficiency.attainable": (
        Mistake("MACs for FLOPs", "A factor of two is missing where memory is the limit.",
                "The peak is in FLOP/s, so the intensity is FLOPs for each byte: 2 x MACs / bytes.", answer=_attainable_macs),
        Mistake("the larger", "A layer can't be faster than either limit allows.",
                "Take the smaller of the two.", answer=_attainable_larger),
        Mistake("no roof", "However much is done with each byte, the processor has a peak.",
                "Take the minimum with the peak.", answer=_attainable_no_roof),
        Mistake("always the peak", "This is the processor's limit. Where do the numbers come from?",
                "Bytes arrive at `bandwidth` a second, and each brings 2 x MACs / bytes FLOPs.", answer=_attainable_always_peak),
        Mistake("upside down", "Your intensity is bytes for each FLOP: the more a layer computes, the slower you make it.",
                "FLOPs divided by bytes, times the bandwidth.", answer=_attainable_upside_down),
    ),
    "measuring_efficiency.amdahl": (
        Mistake("70 % of the gain", "That is 70 % of four. Think in time: what is left of one second?",
                "0.3 s stay as they are; of 0.7 s a quarter is left.", answer=2.8),
        Mistake("mean of gains", "You took the mean of two gains. Times add up, gains do not.",
                "Add the two times that are left, then divide one by the sum.", answer=3.1),
        Mistake("for nothing", "This would be the gain if the 70 % took no time at all.",
                "A quarter of them is left: 0.175.", answer=1 / 0.3),
        Mistake("the wrong part", "You made the other 30 % faster.",
                "It is the 70 % that go four times as fast.", answer=1 / (0.7 + 0.3 / 4)),
        Mistake("time left", "This is the time that is left of one second. How many times as fast is that?",
                "One divided by it.", answer=0.475),
    ),
}
