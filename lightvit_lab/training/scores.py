"""Scores of models, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch import nn

from ..data import Pictures
from ..errors import LabError, plain_numbers, require_logits, require_range
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from .processes import Team

# 97.5 % quantile, 1 to 9 degrees of freedom
_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Score:
    """Share of `count` pictures classified right, with its 95 % Wilson interval (`low`, `high`)."""

    accuracy: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, right: int, count: int) -> Score:
        """The score of `right` answers to `count` pictures."""
        return cls(right / count, *wilson_interval(right, count), count)

    def __str__(self) -> str:
        accuracy, low, high = (100 * share for share in (self.accuracy, self.low, self.high))
        return (f"{accuracy:.1f} % (95 % interval {low:.1f} to {high:.1f} %, {self.count:,} "
                "pictures)")


@plain_numbers
def evaluate(model: nn.Module, data: Pictures, batch_size: int = 256, flip: bool = False) -> Score:
    """Score `model`, in eval mode on `runtime.device()` meanwhile, on every picture of `data`.

    `flip=True` averages the logits of each picture and of its mirror image. Of several processes,
    each scores its share and all return the score of the whole. Raises LabError if there are no
    pictures, and on what are no logits (batch, classes) for their labels.
    """
    require_range("evaluate", "batch_size", batch_size, 1)
    if len(data) == 0:
        raise LabError("evaluate: 0 pictures have no score; give at least one")
    team, model = Team(), unwrapped(model)
    with on_device(model) as place:
        right = torch.zeros((), dtype=torch.long, device=place)
        for index in torch.arange(team.rank, len(data), team.count).split(batch_size):
            inputs, labels = data.batch(index)
            inputs = as_input(model, inputs, place)
            logits = require_logits("evaluate", model, model(inputs), data.labels)
            if flip:
                logits = logits + model(inputs.flip(-1))
            right += (logits.argmax(1) == labels.to(place)).sum()
        return Score.of(int(team.total(right)), len(data))


@plain_numbers
def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), also valid near 0 and 1 and for small counts."""
    share, z = successes / count, 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    variance = share * (1 - share) / count + z * z / (4 * count * count)
    half = z / (1 + z * z / count) * math.sqrt(variance)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)
                  ) -> tuple[float, float, float]:
    """Mean of 2 to 10 runs and its 95 % interval (Student's t), wide for few runs.

    `within` are the least and the greatest value there can be, (0, 1) for accuracies: the interval
    ends there. It covers as often, since the true mean lies between them. Raises LabError on other
    numbers of runs, and on values outside.
    """
    require_range("mean_interval", "len(values)", len(values), 2, 10)
    for value in values:
        require_range("mean_interval", "value", value, *within)
    middle, error = mean(values), stdev(values) / math.sqrt(len(values))
    half = _STUDENT_T[len(values) - 2] * error
    return middle, max(within[0], middle - half), min(within[1], middle + half)


def paired_interval(values: Sequence[float], others: Sequence[float]
                    ) -> tuple[float, float, float]:
    """Mean of `values` less `others`, run by run, and its 95 % interval, as `mean_interval`.

    Run i of both has the same seed: what that seed does to both, an easy order of pictures, falls
    out. Raises LabError where there are not as many of both.
    """
    if len(values) != len(others):
        raise LabError(f"paired_interval: {len(values)} values and {len(others)} others; give both "
                       "of the same seeds, in the same order")
    return mean_interval([value - other for value, other in zip(values, others)])
