"""How long it takes: candidates in turns, medians with intervals, ratios from pairs, never one
after the other.

On a shared machine a neighbour's work moves every number of a run by a factor. Taking turns moves
all candidates alike, and a ratio of two calls of one round hardly notices. (Shown by
tests/bench/bench_measure.py.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from ..runtime import device, device_name, versions
from ..runtime.running import as_input, on_device, synchronize
from .resources import attention_backend, peak_memory_mib

WARM_UP = 3              # rounds that are not counted
# fewer give no interval of 95 %: the two extremes of 5 miss the median in 6 of 100 cases
LEAST_ROUNDS = 6
PRECISE = 0.02           # half of an interval, as a share of its median, that ends a measurement
# upper end of a ratio's interval over its lower end, from where there is no ratio to speak of
NOISY = 1.5


@dataclass(frozen=True)
class Timing:
    """One candidate: median (p50) of one call in milliseconds with its 95 % interval, p90,
    images/s, memory.

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
    """How many times as long one candidate takes as another, with a 95 % interval; no value where
    it is too wide.
    """

    value: float | None
    low: float
    high: float

    @property
    def estimate(self) -> tuple[float, float, float]:
        """Middle, low, high: where there is no value, the middle is that of the interval,
        geometrically.
        """
        return (self.low * self.high) ** 0.5 if self.value is None else self.value, self.low, self.high

    def __str__(self) -> str:
        if self.value is None:
            return f"no ratio: this machine is too noisy just now (between {self.low:.2f} and {self.high:.2f})"
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f})"


class Timings(dict[str, Timing]):
    """What `measure` found, by label; `stopped` says why it ended, `conditions` where and how it
    was measured.
    """

    def __init__(self, timings: Mapping[str, Timing], stopped: str, conditions: dict[str, Any]):
        super().__init__(timings)
        self.stopped, self.conditions = stopped, conditions

    def ratio(self, label: str, base: str) -> Ratio:
        """Time of `label` over time of `base`: the median over the rounds, in each of which both
        had their turn.
        """
        pairs = sorted(one / two for one, two in zip(self[label].seconds, self[base].seconds))
        low, high = _interval(pairs)
        return Ratio(None if high > NOISY * low else median(pairs), low, high)

    def table(self, base: str | None = None) -> str:
        """Lines of text: latency with interval, p90, images/s, memory, and the ratio to `base`
        where one is given.
        """
        lines = [f"{'':24} {'ms (95 % interval)':>28} {'p90':>8} {'images/s':>9} {'peak MiB':>9}"]
        for label, one in self.items():
            interval = f"{one.latency_ms:.2f} ({one.interval_ms[0]:.2f} to {one.interval_ms[1]:.2f})"
            memory = "?" if one.peak_memory_mib is None else f"{one.peak_memory_mib:.0f}"
            lines.append(f"{label:24} {interval:>28} {one.p90_ms:8.2f} {one.throughput_img_s:9.1f} {memory:>9}")
        if base is not None:
            lines += [f"{label} / {base}: {self.ratio(label, base)}" for label in self if label != base]
        rounds = max(one.rounds for one in self.values())
        lines += [f"{self.conditions['machine']}, {self.conditions['dtype']}; {rounds} rounds;", self.stopped]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text, ready for JSON."""
        candidates = {label: asdict(one) for label, one in self.items()}
        return {"candidates": candidates, "stopped": self.stopped, **self.conditions}


@plain_numbers
def measure(models: Mapping[str, nn.Module], inputs: Tensor | Mapping[str, Tensor],
            budget_s: float = 5.0, max_rounds: int = 500, threads: int | None = None,
            watch: Callable[[float], None] | None = None) -> Timings:
    """Time each model's forward on `inputs` (one batch for all, or one per label), in rounds that
    take turns.

    Rounds go on until the 95 % interval of every median is within 2 % of it, or `budget_s` seconds
    or `max_rounds` are spent, at least 6. Models run in eval mode on `runtime.device()` and are
    left as they were. On a CPU as many threads as pay are used, one or all (tried on the first
    model), or `threads`. After each round `watch` is called with the share of the budget that is
    spent, and with 1 after the last. Raises LabError when there is nothing to time, or a model does
    not take its inputs.
    """
    if not models:
        raise LabError('measure: no models were given; give {"label": model}')
    require_range("measure", "budget_s", budget_s, 0.0)
    # in this order: weights move before
    with on_device(*models.values()) as place, torch.inference_mode():
        calls = {label: (model, _batch(inputs, label, model, place)) for label, model in models.items()}
        for label, (model, batch) in calls.items():
            _try(label, model, batch)
        with _threads(threads, *next(iter(calls.values()))) as tried:
            seconds, stopped = _rounds(calls, budget_s, max_rounds, watch)
            timings = {label: summary(seconds[label], len(batch), peak_memory_mib=peak_memory_mib(model, batch))
                       for label, (model, batch) in calls.items()}
            return Timings(timings, stopped, _conditions(calls, tried))


def _rounds(calls: Mapping[str, tuple[nn.Module, Tensor]], budget_s: float, max_rounds: int,
            watch: Callable[[float], None] | None) -> tuple[dict[str, list[float]], str]:
    """Seconds of each candidate's calls. Every other round runs backwards, so that nobody always
    comes after the same.
    """
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(WARM_UP):
        for model, batch in calls.values():
            model(batch)
    synchronize()
    start, done, order = time.perf_counter(), 0, list(calls)
    while True:
        for label in order:
            seconds[label].append(timed(*calls[label]))
        order.reverse()
        done += 1
        spent = time.perf_counter() - start
        stopped = _why_to_stop(seconds, done, max_rounds, spent, budget_s)
        if watch is not None:
            watch(1.0 if stopped else spent / max(spent, budget_s))
        if stopped:
            return seconds, stopped


def _why_to_stop(seconds: Mapping[str, list[float]], done: int, max_rounds: int, spent: float,
                 budget_s: float) -> str:
    """What ends the rounds, or nothing while there is something to gain."""
    if done >= LEAST_ROUNDS and all(_is_precise(found) for found in seconds.values()):
        return f"every interval is within {PRECISE:.0%} of its median"
    if done >= LEAST_ROUNDS and (done >= max_rounds or spent >= budget_s):
        return f"stopped after {spent:.1f} s, before every interval was within {PRECISE:.0%}"
    return ""


def timed(model: nn.Module, batch: Tensor) -> float:
    """Seconds of one call, with everything done that it started."""
    synchronize()
    start = time.perf_counter()
    model(batch)
    synchronize()
    return time.perf_counter() - start


def _batch(inputs: Tensor | Mapping[str, Tensor], label: str, model: nn.Module,
           place: torch.device) -> Tensor:
    if not isinstance(inputs, Tensor):
        if label not in inputs:
            raise LabError(f"measure: inputs hold no batch for {label!r}; they hold {sorted(inputs)}")
        inputs = inputs[label]
    if len(inputs) == 0:
        raise LabError(f"measure: the batch for {label!r} holds no image; give one at least")
    return as_input(model, inputs, place)


def _try(label: str, model: nn.Module, batch: Tensor) -> None:
    try:
        model(batch)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise LabError(f"measure: {label!r} does not take inputs of shape {tuple(batch.shape)}: {error}") from error


@contextmanager
def _threads(wanted: int | None, model: nn.Module, batch: Tensor) -> Iterator[dict[int, float]]:
    """Set the number of threads for a while: the wanted, or the faster of one and all. Yields
    milliseconds tried.
    """
    before, tried = torch.get_num_threads(), {}
    try:
        if wanted is None and device().type == "cpu" and before > 1:
            tried = _try_threads((1, before), model, batch)
            wanted = min(tried, key=lambda count: tried[count])
        torch.set_num_threads(wanted or before)
        yield tried
    finally:
        torch.set_num_threads(before)


def _try_threads(counts: Sequence[int], model: nn.Module, batch: Tensor,
                 rounds: int = 5) -> dict[int, float]:
    """Median milliseconds by number of threads, taking turns. The first call after a change starts
    threads: not counted.
    """
    found: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            torch.set_num_threads(count)
            model(batch)
            found[count].append(timed(model, batch))
    return {count: 1e3 * median(seconds) for count, seconds in found.items()}


def _conditions(calls: Mapping[str, tuple[nn.Module, Tensor]],
                tried: dict[int, float]) -> dict[str, Any]:
    dtypes = {str(batch.dtype).removeprefix("torch.") for _, batch in calls.values()}
    return {"machine": device_name(), "threads": torch.get_num_threads(), "threads_tried_ms": tried,
            "dtype": " and ".join(sorted(dtypes)), "attention": attention_backend(), "versions": versions()}


def summary(seconds: Sequence[float], batch_size: int, **extra: Any) -> Timing:
    """Median, interval and p90 of the seconds of single calls, and the machine and threads in use
    now.
    """
    ordered = sorted(seconds)
    low, high = _interval(ordered)
    middle = median(ordered)
    p90 = ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]
    return Timing(latency_ms=middle * 1e3, interval_ms=(low * 1e3, high * 1e3), p90_ms=p90 * 1e3,
                  throughput_img_s=batch_size / middle, rounds=len(ordered), machine=device_name(),
                  seconds=tuple(seconds), **{"peak_memory_mib": None} | extra)


def _is_precise(seconds: Sequence[float]) -> bool:
    ordered = sorted(seconds)
    low, high = _interval(ordered)
    return (high - low) / 2 <= PRECISE * median(ordered)


def _interval(ordered: Sequence[float]) -> tuple[float, float]:
    low, high = median_ranks(len(ordered))
    return ordered[low], ordered[high]


def median_ranks(count: int) -> tuple[int, int]:
    """0-based ranks between which the median of `count` sorted samples lies with at least 95 %
    (binomial, no normality).
    """
    tail, low = 0.0, 0
    for successes in range(count // 2):
        tail += math.comb(count, successes) / 2**count
        if tail > 0.025:
            break
        low = successes + 1
    low = max(0, low - 1)
    return low, count - 1 - low
