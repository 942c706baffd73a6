"""Two ways of timing one model against itself, on a machine as it is and on one made busy.

`chapters/foundations/measuring_efficiency` shows what this study stores. The ratio is 1, so
whatever else comes out is the fault of the way. Neighbours are processes that work in bursts, one
for each processor; what else runs on the machine is not known, as on any shared one.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, profiling
from ..profiling.timing import timed
from ..runtime.running import on_device
from .kit import Study

NAME, MODEL, BATCH = "timing_under_load", "lab_vit_student", 8
CALLS, TRIALS = 15, 60


def timing_under_load(_study: Study) -> dict[str, Any]:
    """The ratios that both ways give in `TRIALS` trials, without and with neighbours."""
    torch.manual_seed(0)
    model, inputs = models.create_model(MODEL).eval(), torch.randn(BATCH, 3, 32, 32)
    conditions, processors = {}, os.cpu_count() or 1
    for label, count in (("nothing added", 0), ("busy neighbours added", processors)):
        with neighbours(count):
            trials = [(mean_ratio(model, inputs), ratio_in_turns(model, inputs))
                      for _ in range(TRIALS)]
        one_by_one, in_turns = zip(*trials)
        conditions[label] = {"neighbours": count, "one_by_one": one_by_one,
                             "in_turns": in_turns}
    return {"model": MODEL, "batch_size": BATCH, "calls": CALLS, "conditions": conditions}


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """`count` processes that work in bursts of 0.05 to 1 s, with pauses alike, until the end."""
    context = multiprocessing.get_context("spawn")
    working = [context.Process(target=bursts, args=(seed,), daemon=True) for seed in range(count)]
    for process in working:
        process.start()
    time.sleep(2.0 if count else 0.0)           # until all of them work
    try:
        yield
    finally:
        for process in working:
            process.terminate()
            process.join()


def bursts(seed: int) -> None:
    """Work and rest in turns, until the process is stopped."""
    draw = random.Random(seed)
    while True:
        end = time.perf_counter() + draw.uniform(0.05, 1)
        while time.perf_counter() < end:
            math.sqrt(2)
        time.sleep(draw.uniform(0.05, 1))


@torch.inference_mode()
def mean_ratio(model: nn.Module, inputs: Tensor) -> float:
    """The time of `CALLS` calls over that of as many that come after them."""
    with on_device(model, threads=1, place=torch.device("cpu")):
        seconds = [timed(model, inputs) for _ in range(2 * CALLS)]
    return round(sum(seconds[:CALLS]) / sum(seconds[CALLS:]), 4)


def ratio_in_turns(model: nn.Module, inputs: Tensor) -> dict[str, float | None]:
    """What `measure` says of as many calls: the interval of the ratio, and the ratio or None."""
    pair = {"one": model, "other": model}
    ratio = profiling.measure(pair, inputs, 60.0, CALLS, threads=1).ratio("one", "other")
    value = None if ratio.value is None else round(ratio.value, 4)
    return {"ratio": value, "low": round(ratio.low, 4), "high": round(ratio.high, 4)}


STUDIES = (Study(NAME, timing_under_load),)
