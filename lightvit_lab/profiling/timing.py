"""How long it takes: candidates in turns, medians with intervals, ratios from pairs.

On a shared machine a neighbour's work moves every number of a run by a factor. Taking turns moves
all candidates alike, and a ratio of two calls of one round hardly notices. (Shown by
tests/bench/bench_measure.py.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from ..runtime import device, device_name, versions
from ..runtime.running import as_input, on_device, synchronize
from .resources import attention_backend, peak_memory_mib

WARM_UP = 3              # rounds that are not counted
# Fewer give no interval of 95 %: the two extremes of 5 miss the median in 6 of 100 cases.
LEAST_ROUNDS = 6
PRECISE = 0.02           # half of an interval, as a share of its median, that ends a measurement
# Upper end of a ratio's interval over its lower end, from where there is no ratio to speak of.
NOISY = 1.5


@dataclass(frozen=True)
class Timing:
    """One candidate: median of one call in milliseconds, its 95 % interval, p90, images/s, memory.

    `peak_memory_mib`: its weights and what a call adds at most, None where the system does not
    tell. `seconds` are all calls, in the order of the rounds.
    """

    latency_ms: float
    interval_ms: tuple[float, float]
    p90_ms: float
    throughput_img_s: float
    peak_memory_mib: float | None
    rounds: int
    machine: str
    seconds: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Ratio:
    """How many times as long one candidate takes as another, with a 95 % interval.

    `value` is None where the interval is too wide.
    """

    value: float | None
    low: float
    high: float

    @property
    def estimate(self) -> tuple[float, float, float]:
        """Middle, low, high: without a value, the geometric middle of the interval."""
        middle = (self.low * self.high) ** 0.5 if self.value is None else self.value
        return middle, self.low, self.high

    def __str__(self) -> str:
        if self.value is None:
            return (f"no ratio: this machine is too noisy just now (between {self.low:.2f} and "
                    f"{self.high:.2f})")
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f})"


class Timings(dict[str, Timing]):
    """The result of `measure`, by label.

    `stopped` says why it ended, `conditions` where and how it was measured.
    """

    def __init__(self, timings: Mapping[str, Timing], stopped: str, conditions: dict[str, Any]):
        super().__init__(timings)
        self.stopped, self.conditions = stopped, conditions

    def ratio(self, label: str, base: str) -> Ratio:
        """Time of `label` over time of `base`: the median of the ratios within each round."""
        pairs = sorted(one / two for one, two in zip(self[label].seconds, self[base].seconds))
        low, high = _interval(pairs)
        return Ratio(None if high > NOISY * low else median(pairs), low, high)

    def table(self, base: str | None = None) -> str:
        """Lines of text: latency with interval, p90, images/s, memory, and the ratio to `base`."""
        lines = [f"{'':24} {'ms (95 % interval)':>28} {'p90':>8} {'images/s':>9} {'peak MiB':>9}"]
        for label, one in self.items():
            low, high = one.interval_ms
            memory = "?" if one.peak_memory_mib is None else f"{one.peak_memory_mib:.0f}"
            lines.append(f"{label:24} {f'{one.latency_ms:.2f} ({low:.2f} to {high:.2f})':>28} "
                         f"{one.p90_ms:8.2f} {one.throughput_img_s:9.1f} {memory:>9}")
        others = [label for label in self if base not in (None, label)]
        lines += [f"{label} / {base}: {self.ratio(label, base)}" for label in others]
        rounds = max(one.rounds for one in self.values())
        lines.append(f"{self.conditions['machine']}, {self.conditions['dtype']}; {rounds} rounds;")
        return "\n".join([*lines, self.stopped])


@plain_numbers
def measure(models: Mapping[str, nn.Module], inputs: Tensor | Mapping[str, Tensor],
            budget_s: float = 5.0, max_rounds: int = 500, threads: int | None = None,
            callback: Callable[[float], None] | None = None) -> Timings:
    """Time each model's forward on `inputs` (one batch for all, or one per label), in turns.

    Rounds go on until the 95 % interval of every median is within 2 % of it, or `budget_s` seconds
    or `max_rounds` are spent, at least 6. Models run in eval mode on `runtime.device()` and are
    left as they were. On a CPU as many threads as pay are used, one or all (tried on the first
    model), or `threads`. After each round `callback` is called with the share of the budget that is
    spent, and with 1 after the last. Raises LabError when there is nothing to time, or a model does
    not take its inputs.
    """
    if not models:
        raise LabError('measure: no models were given; give {"label": model}')
    require_range("measure", "budget_s", budget_s, 0.0)
    # In this order: weights move before inference mode.
    with on_device(*models.values(), threads=threads) as place, torch.inference_mode():
        calls = {label: (model, _batch(inputs, label, model, place))
                 for label, model in models.items()}
        tried = _choose_threads(*next(iter(calls.values()))) if threads is None else {}
        seconds, stopped = _rounds(calls, budget_s, max_rounds, callback)
        timings = {label: summary(seconds[label], len(batch), peak_memory_mib(model, batch))
                   for label, (model, batch) in calls.items()}
        return Timings(timings, stopped, _conditions(calls, tried))


def _rounds(calls: Mapping[str, tuple[nn.Module, Tensor]], budget_s: float, max_rounds: int,
            callback: Callable[[float], None] | None) -> tuple[dict[str, list[float]], str]:
    """Seconds of each candidate's calls, and what ended the rounds.

    Every other round runs backwards, so that no candidate always comes after the same one.
    """
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(WARM_UP):
        for model, batch in calls.values():
            model(batch)
    synchronize()
    start, stopped, order = time.perf_counter(), "", list(calls)
    while not stopped:
        for label in order:
            seconds[label].append(timed(*calls[label]))
        order.reverse()
        spent = time.perf_counter() - start
        over = len(seconds[order[0]]) >= max_rounds or spent >= budget_s
        stopped = _why_to_stop(seconds.values(), spent, over)
        if callback is not None:
            callback(1.0 if stopped else spent / max(spent, budget_s))
    return seconds, stopped


def _why_to_stop(seconds: Collection[Sequence[float]], spent: float, over: bool) -> str:
    """What ends the rounds, or nothing while there is something to gain."""
    if any(len(calls) < LEAST_ROUNDS for calls in seconds):
        return ""
    if all(_is_precise(calls) for calls in seconds):
        return f"every interval is within {PRECISE:.0%} of its median"
    stop = f"stopped after {spent:.1f} s, before every interval was within {PRECISE:.0%}"
    return stop if over else ""


def timed(model: nn.Module, batch: Tensor) -> float:
    """Seconds of one call, with everything done that it started."""
    synchronize()
    start = time.perf_counter()
    model(batch)
    synchronize()
    return time.perf_counter() - start


def _batch(inputs: Tensor | Mapping[str, Tensor], label: str, model: nn.Module,
           place: torch.device) -> Tensor:
    """The batch of one model, which has run on it once."""
    batch = inputs if isinstance(inputs, Tensor) else inputs.get(label)
    if batch is None:
        raise LabError(f"measure: inputs have no batch for {label!r}, but for {sorted(inputs)}")
    if len(batch) == 0:
        raise LabError(f"measure: the batch for {label!r} holds no image; give one at least")
    batch = as_input(model, batch, place)
    try:
        model(batch)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise LabError(f"measure: {label!r} does not take inputs of shape {tuple(batch.shape)}: "
                       f"{error}") from error
    return batch


def _choose_threads(model: nn.Module, batch: Tensor) -> dict[int, float]:
    """Set the faster of one thread and all, on a CPU; median milliseconds by number of threads.

    They take turns. The first call after a change starts threads: it is not counted.
    """
    counts = (1, torch.get_num_threads())
    if device().type != "cpu" or counts[1] == 1:
        return {}

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        model(batch)
        return timed(model, batch)

    spent = in_turns(seconds, counts, rounds=5)
    tried = {count: 1e3 * median(calls) for count, calls in zip(counts, spent)}
    torch.set_num_threads(min(tried, key=lambda count: tried[count]))
    return tried


def in_turns(seconds: Callable[[Any], float], choices: tuple[Any, Any], rounds: int,
             end: float = math.inf) -> tuple[list[float], list[float]]:
    """`seconds` of both choices in turns, `rounds` times, or until one would end after `end`."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(2 * rounds):
        times = spent[turn % 2]
        if time.perf_counter() + max(times, default=0) > end:
            break
        times.append(seconds(choices[turn % 2]))
    return spent


def _conditions(calls: Mapping[str, tuple[nn.Module, Tensor]],
                tried: dict[int, float]) -> dict[str, Any]:
    dtypes = {str(batch.dtype).removeprefix("torch.") for _, batch in calls.values()}
    return {"machine": device_name(), "threads": torch.get_num_threads(), "threads_tried_ms": tried,
            "dtype": " and ".join(sorted(dtypes)), "attention": attention_backend(),
            "versions": versions()}


def summary(seconds: Sequence[float], batch_size: int,
            peak_memory_mib: float | None = None) -> Timing:
    """Median, interval and p90 of single calls, and the machine and threads in use now."""
    ordered, middle = sorted(seconds), median(seconds)
    low, high = _interval(ordered)
    p90 = ordered[math.ceil(0.9 * len(ordered)) - 1]
    return Timing(middle * 1e3, (low * 1e3, high * 1e3), p90 * 1e3, batch_size / middle,
                  peak_memory_mib, len(ordered), device_name(), tuple(seconds))


def _is_precise(seconds: Sequence[float]) -> bool:
    low, high = _interval(sorted(seconds))
    return (high - low) / 2 <= PRECISE * median(seconds)


def _interval(ordered: Sequence[float]) -> tuple[float, float]:
    low, high = median_ranks(len(ordered))
    return ordered[low], ordered[high]


def median_ranks(count: int) -> tuple[int, int]:
    """0-based ranks between which the median of `count` sorted samples lies with at least 95 %.

    From the binomial distribution; nothing is assumed of the samples.
    """
    tail, low = 0.5**count, 0       # the chance that the median lies below the sample of rank low
    while (tail := tail + math.comb(count, low + 1) / 2**count) <= 0.025:
        low += 1
    return low, count - 1 - low
