"""Is `measure` honest? A model against itself, beside a neighbour that works in bursts, and timm's way at equal time.

Each trial measures two copies of one model for a while and asks for their ratio, which is 1. `measure` takes turns; the
other way is that of timm's benchmark.py: 10 calls to warm up and the mean of up to 40 calls, one copy after the other.
Goals: 1.0 lies within the 95 % interval in at least 90 of 100 trials; the spread of the ratios is at most a third of timm's.
"""

import argparse
import copy
import math
import multiprocessing
import os
import random
import time
from statistics import mean, quantiles

import torch

from lightvit_lab import models, profiling
from lightvit_lab.profiling.timing import timed
from lightvit_lab.runtime import device_name


def neighbour(seed: int) -> None:
    """Work in bursts of 0.05 to 1 s with pauses alike, until it is stopped."""
    random.seed(seed)
    while True:
        end = time.perf_counter() + random.uniform(0.05, 1)
        while time.perf_counter() < end:
            math.sqrt(2)
        time.sleep(random.uniform(0.05, 1))


def one_after_the_other(pair: dict[str, torch.nn.Module], inputs: torch.Tensor, seconds: float) -> float:
    """Ratio of two means, each of as many calls as half of the time allows, 40 at most, after 10 to warm up."""
    means = []
    for model in pair.values():
        start, calls = time.perf_counter(), []
        for _ in range(10):
            model(inputs)
        while len(calls) < 5 or (len(calls) < 40 and time.perf_counter() - start < seconds / 2):
            calls.append(timed(model, inputs))
        means.append(mean(calls))
    return means[0] / means[1]


def spread(ratios: list[float]) -> float:
    """Middle 90 % of the logarithms of the ratios."""
    cuts = quantiles([math.log(ratio) for ratio in ratios], n=20)
    return cuts[-1] - cuts[0]


@torch.inference_mode()
def main() -> None:
    """Print how often 1.0 lies inside, and both spreads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--neighbours", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = models.create_model("lab_vit_student").eval()
    pair, inputs = {"one": model, "two": copy.deepcopy(model)}, torch.randn(4, 3, 32, 32)
    busy = [multiprocessing.Process(target=neighbour, args=(seed,), daemon=True) for seed in range(given.neighbours)]
    for process in busy:
        process.start()
    inside, ours, none, theirs, spent = 0, [], 0, [], [0.0, 0.0]
    for _ in range(given.trials):
        start = time.perf_counter()
        ratio = profiling.measure(pair, inputs, budget_s=given.seconds, max_rounds=10**6).ratio("one", "two")
        middle = time.perf_counter()
        theirs.append(one_after_the_other(pair, inputs, middle - start))
        spent = [spent[0] + middle - start, spent[1] + time.perf_counter() - middle]
        none += ratio.value is None
        inside += ratio.low <= 1 <= ratio.high
        ours.append(ratio.estimate[0])
    for process in busy:
        process.terminate()
    print(f"{device_name()}, {given.neighbours} neighbours in bursts; {given.trials} trials; seconds spent {spent[0]:.0f} and {spent[1]:.0f}")
    print(f"1.0 lies within the interval in {inside} of {given.trials} trials; no ratio in {none}")
    print(f"spread (5 % to 95 %) of the ratio: {spread(ours):.1%}; one after the other {spread(theirs):.1%}: "
          f"{spread(ours) / spread(theirs):.2f} of it")


if __name__ == "__main__":
    main()
