"""What pays on this machine: threads, half precision, fused attention, tried before a run.

They are tried on a copy of the model, since none can be known: beside a busy neighbour two threads
can be sixteen times slower than one, bfloat16 pays only where the processor multiplies it, and the
backward pass of fused attention is slow on some CPUs.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..profiling.timing import in_turns
from ..runtime.running import cast, native_bfloat16
from .randomness import same_states_afterwards

PRECISIONS, ATTENTIONS = ("auto", "float32", "bfloat16"), ("auto", "fused", "written")
PROBE_SECONDS = 1.3      # for all trials of steps together; a step under way is not cut off
PASS_SECONDS = 0.3       # before them, for what threads are worth at all
# the sub-batch is cut so that one trial step takes about this long; threads pay on larger ones
STEP_SECONDS = 0.06
GAIN = 1.1               # what a choice must gain to be preferred to the plain one


def choose_settings(model: nn.Module, inputs: Tensor, threads: int | None = None,
                    precision: str = "auto", attention: str = "auto",
                    seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Choose threads, precision and attention for training `model` on `inputs` (B, 3, H, W).

    Returns a dict of the three; what is not given is tried. `model` and the global random states
    stay as they are. After `seconds` what is untried has its default: float32, fused, and all
    threads unless short passes over memory lose by them. A GPU is not probed: bfloat16 where it
    multiplies it itself, fused. Attention is None for models that have no such switch.
    """
    on_cpu, switched = inputs.device.type == "cpu", any(attention_switches(model))
    default = "bfloat16" if native_bfloat16(inputs.device) else "float32"
    most = torch.get_num_threads()
    choices = {"threads": threads or (1 if on_cpu and most > 1 and _threads_lose(most) else most),
               "precision": default if precision == "auto" else precision,
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
    """Modules that can fuse attention, and the switch's name: `fused`, or timm's `fused_attn`."""
    for module in model.modules():
        for name in ("fused", "fused_attn"):
            if isinstance(getattr(module, name, None), bool):
                yield module, name


@contextmanager
def applied(model: nn.Module, choices: dict[str, Any]) -> Iterator[None]:
    """Run with these threads and this attention; both are set back, also after an error."""
    threads = torch.get_num_threads()
    switches = [(*switch, getattr(*switch)) for switch in attention_switches(model)]
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
    """Whether passes over a megabyte take much longer with `threads` than with one.

    Beside a busy neighbour each pass waits for the slowest thread, ten times as long; one step of a
    model has hundreds, so this is measured before any step is tried.
    """
    values = torch.ones(2**18)

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        start = time.perf_counter()
        for _ in range(5):
            F.gelu(values)
        return time.perf_counter() - start

    try:
        one, many = in_turns(seconds, (1, threads), 20, time.perf_counter() + PASS_SECONDS)
    finally:
        torch.set_num_threads(threads)
    # medians, not sums: one slow pass would decide
    return bool(many) and median(many) > 1.5 * median(one)


def _try(model: nn.Module, inputs: Tensor, choices: dict[str, Any],
         trials: list[tuple[dict[str, Any], float]], seconds: float) -> dict[str, Any]:
    """Try one change after the other, each against the best so far; take those that gain enough."""
    end = time.perf_counter() + seconds
    trial_model = copy.deepcopy(model).train()
    with same_states_afterwards():
        inputs = _sub_batch(trial_model, inputs, {**choices, "threads": 1}, end)
        step_seconds = partial(_seconds_of_step, trial_model, inputs)
        for number, (change, gain) in enumerate(trials):
            now = time.perf_counter()
            rival, until = {**choices, **change}, now + (end - now) / (len(trials) - number)
            if rival != choices and speedup(step_seconds, choices, rival, end=until) >= gain:
                choices = rival
    return choices


def _sub_batch(model: nn.Module, inputs: Tensor, choices: dict[str, Any], end: float) -> Tensor:
    """As many pictures as make a step of about STEP_SECONDS; at least 2, for batch norm."""
    once = _seconds_of_step(model, inputs[:2], choices)          # this one also prepares kernels
    if time.perf_counter() < end:
        once = min(once, _seconds_of_step(model, inputs[:2], choices))
    return inputs[: min(128, max(2, round(2 * STEP_SECONDS / once)))]


def speedup(seconds: Callable[[Any], float], plain: Any, rival: Any, rounds: int = 6,
            end: float = math.inf) -> float:
    """How many times faster `rival` is than `plain`, by `seconds(choice)`; 0 if time ran out.

    The smaller of the ratios of medians and of minima; the first call of each, which also prepares
    kernels, is not counted.
    """
    slow, fast = (times[1:] for times in in_turns(seconds, (plain, rival), rounds, end))
    return min(median(slow) / median(fast), min(slow) / min(fast)) if slow and fast else 0.0


def _seconds_of_step(model: nn.Module, inputs: Tensor, choices: dict[str, Any]) -> float:
    """Seconds of one forward and backward pass; the loss is any scalar made of the outputs.

    Of the forward pass alone where no output has a gradient, as with exits on a frozen model.
    """
    with applied(model, choices):
        start = time.perf_counter()
        with cast(choices["precision"], inputs.device):
            losses = [output.float().square().mean() for output in _tensors(model(inputs))]
        if losses:
            sum(losses).backward()
        return time.perf_counter() - start


def _tensors(outputs: Any) -> list[Tensor]:
    """Tensors with a gradient that a model returns: one, or several in a list, tuple or dict."""
    several = [outputs] if isinstance(outputs, Tensor) else outputs
    several = several.values() if isinstance(several, dict) else several
    return [output for output in several if isinstance(output, Tensor) and output.requires_grad]
