"""What pays on this machine: threads, half precision and fused attention, tried on a copy of the
model before a run.

None of the three is a matter of taste: beside a busy neighbour two threads can be sixteen times
slower than one, bfloat16 pays only where the processor multiplies it, and the backward pass of
fused attention is slow on some CPUs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime.running import cast, native_bfloat16
from .randomness import random_states, restore_random_states

PRECISIONS, ATTENTIONS = ("auto", "float32", "bfloat16"), ("auto", "fused", "written")
PROBE_SECONDS = 1.3      # for all trials of steps together; a step under way is not cut off
PASS_SECONDS = 0.3       # before them, for what threads are worth at all
# the sub-batch is cut so that one trial step takes about so long; threads pay on larger ones
STEP_SECONDS = 0.06
GAIN = 1.1               # what a choice must gain to be preferred to the plain one


def choose_settings(model: nn.Module, inputs: Tensor, threads: int | None = None, precision: str = "auto",
           attention: str = "auto", seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """`{"threads", "precision", "attention"}` for training `model` on `inputs` (B, 3, H, W); the
    rest is tried.

    `model` and the global random states stay as they are. After `seconds` what is untried keeps its
    default: float32, fused, and all threads unless short passes over memory lose by them. A GPU is
    not probed: bfloat16 where it multiplies it itself, fused. Attention is None for models that
    have no such switch.
    """
    on_cpu, switched = inputs.device.type == "cpu", any(attention_switches(model))
    half_by_default = native_bfloat16(inputs.device)
    most = torch.get_num_threads()
    choices = {"threads": threads or (1 if on_cpu and most > 1 and _threads_lose(most) else most),
               "precision": ("bfloat16" if half_by_default else "float32") if precision == "auto" else precision,
               "attention": None if not switched else "fused" if attention == "auto" else attention}
    half, written = {"precision": "bfloat16"}, {"attention": "written"}
    trials = [({"threads": 1}, 1 / GAIN)] if threads is None and choices["threads"] > 1 else []
    trials += [(half, GAIN)] if precision == "auto" else []
    trials += [(written, GAIN)] if attention == "auto" and switched else []
    # where neither pays alone both together may: in bfloat16 the backward pass of fused attention
    # can be the slow part
    trials += [({**half, **written}, GAIN)] if precision == attention == "auto" and switched else []
    return _try(model, inputs, choices, trials, seconds) if on_cpu and trials else choices


def attention_switches(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules that can fuse attention or write it out, and the switch's name: `fused` here,
    `fused_attn` in timm.
    """
    for module in model.modules():
        for name in ("fused", "fused_attn"):
            if isinstance(getattr(module, name, None), bool):
                yield module, name


@contextmanager
def applied(model: nn.Module, choices: dict[str, Any]) -> Iterator[None]:
    """Run with these threads and this attention; both are set back afterwards, also after an error."""
    threads, switches = torch.get_num_threads(), [(*found, getattr(*found)) for found in attention_switches(model)]
    try:
        torch.set_num_threads(choices["threads"])
        for module, name, _ in switches:
            setattr(module, name, choices["attention"] == "fused")
        yield
    finally:
        torch.set_num_threads(threads)
        for module, name, value in switches:
            setattr(module, name, value)


def _threads_lose(threads: int) -> bool:
    """Whether passes over a megabyte take much longer with `threads` than with one. Beside a busy
    neighbour each pass waits for the slowest thread, ten times as long; one step of a model has
    hundreds, so we look before we try one.
    """
    values, seconds = torch.ones(2**18), {1: [], threads: []}
    end = time.perf_counter() + PASS_SECONDS
    try:
        for _ in range(20):
            for count in seconds:
                torch.set_num_threads(count)
                start = time.perf_counter()
                for _ in range(5):
                    F.gelu(values)
                seconds[count].append(time.perf_counter() - start)
            if time.perf_counter() > end:
                break
    finally:
        torch.set_num_threads(threads)
    # not the sums: one stumble would decide
    return median(seconds[threads]) > 1.5 * median(seconds[1])


def _try(model: nn.Module, inputs: Tensor, choices: dict[str, Any],
         trials: list[tuple[dict[str, Any], float]], seconds: float) -> dict[str, Any]:
    """Try one change after the other, each against the best so far, and keep those that gain
    enough.
    """
    end, states = time.perf_counter() + seconds, random_states()
    trial_model = copy.deepcopy(model).train()
    try:
        inputs = _sub_batch(trial_model, inputs, {**choices, "threads": 1}, end)
        for number, (change, gain) in enumerate(trials):
            now = time.perf_counter()
            rival = {**choices, **change}
            if rival != choices and _gain(trial_model, inputs, choices, rival, now + (end - now) / (len(trials) - number)) >= gain:
                choices = rival
    finally:
        restore_random_states(states)
    return choices


def _sub_batch(model: nn.Module, inputs: Tensor, choices: dict[str, Any], end: float) -> Tensor:
    """As many pictures as make a step of about STEP_SECONDS; at least 2, for batch norm."""
    once = _seconds_of_step(model, inputs[:2], choices)          # this one also prepares kernels
    if time.perf_counter() < end:
        once = min(once, _seconds_of_step(model, inputs[:2], choices))
    return inputs[: min(128, max(2, round(2 * STEP_SECONDS / once)))]


def _gain(model: nn.Module, inputs: Tensor, plain: dict[str, Any], rival: dict[str, Any],
          end: float) -> float:
    """How many times faster `rival` is, by median and by minimum of interleaved steps; 0 if time
    ran out.
    """
    seconds: dict[str, list[float]] = {"plain": [], "rival": []}
    for _ in range(6):
        for label, choices in (("plain", plain), ("rival", rival)):
            if time.perf_counter() + max(seconds[label], default=0) > end:
                return _ratio(seconds)
            seconds[label].append(_seconds_of_step(model, inputs, choices))
    return _ratio(seconds)


def _ratio(seconds: dict[str, list[float]]) -> float:
    # the first step also prepares kernels
    plain, rival = (values[1:] for values in seconds.values())
    return min(median(plain) / median(rival), min(plain) / min(rival)) if plain and rival else 0.0


def _seconds_of_step(model: nn.Module, inputs: Tensor, choices: dict[str, Any]) -> float:
    """Seconds of one forward and backward pass; any scalar made of the outputs will do as a loss.

    Of the forward pass alone where no output learns, as where exits are trained beside a frozen
    end.
    """
    with applied(model, choices):
        start = time.perf_counter()
        with cast(choices["precision"], inputs.device):
            losses = [output.float().square().mean() for output in _tensors(model(inputs))]
        if losses:
            sum(losses).backward()
        return time.perf_counter() - start


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors of what a model returns: one, or several in a list, a tuple or a dict."""
    found = outputs.values() if isinstance(outputs, dict) else [outputs] if isinstance(outputs, Tensor) else outputs
    return [output for output in found if isinstance(output, Tensor) and output.requires_grad]
