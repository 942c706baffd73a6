"""Attention with an additive bias, in the form that is faster here: fused, or written out.

torch's fused kernel is the faster one mostly, but not for every shape on every processor: on some
the two products of many short rows are quicker by its matrix library. So where both may be taken,
both are timed once for each kind of shape, on the tensors of the call that meets it first.
"""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

SQUARES = 2**24      # weights in all, above which writing them out takes too much memory
TIMED = 2**21        # weights on which the two are timed: of more, the first pictures do
ROUNDS, GAIN = 3, 1.05                 # of taking turns; what writing out must gain to be taken
_written_faster: dict[tuple, bool] = {}     # by shape and by kind of shape, for this process


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor,
                     scale: float | None = None) -> Tensor:
    """softmax(query key^T * scale + bias) value: (batch, heads, queries, head_dim).

    `bias` is broadcast to (batch, heads, queries, keys). Gradients, GPUs, other types than float32,
    compilers and counters get torch's fused kernel; on a CPU the faster form is taken.
    """
    parts = (query, key, value, bias)
    if may_be_written(*parts) and _writing_is_faster(*parts, scale):
        return written_out(query, key, value, bias, scale)
    return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor,
                scale: float | None = None) -> Tensor:
    """The same by two products and a softmax; without gradients, for the bias is added in place."""
    scores = query * (query.shape[-1]**-0.5 if scale is None else scale) @ key.mT
    return scores.add_(bias).softmax(dim=-1) @ value


def may_be_written(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> bool:
    """Whether there is a choice: a plain call on a CPU, in float32, that wants no gradient."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(query) is not Tensor:
        return False
    if query.device.type != "cpu" or query.ndim != 4 or torch.is_autocast_enabled("cpu"):
        return False
    parts = (query, key, value, bias)
    exact = all(part.dtype == torch.float32 for part in parts)
    learns = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
    small = query.shape[:-1].numel() * key.shape[-2] <= SQUARES
    return exact and small and not learns and _get_current_dispatch_mode() is None


def _writing_is_faster(query: Tensor, key: Tensor, value: Tensor, bias: Tensor,
                       scale: float | None) -> bool:
    """What the first call of this kind of shape found, on as many threads."""
    shape = (query.shape, key.shape, bias.shape, torch.get_num_threads())
    if shape not in _written_faster:
        _written_faster[shape] = _timed(query, key, value, bias, scale)
    return _written_faster[shape]


def _timed(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float | None) -> bool:
    """Whether writing out gains enough, tried on the first pictures, once for like shapes."""
    few = max(1, TIMED // max(1, query.shape[1:-1].numel() * key.shape[-2]))
    parts = [part[:few] if part.ndim == 4 and part.shape[0] == query.shape[0] else part
             for part in (query, key, value, bias)]
    sizes = parts[0].shape[:2].numel(), query.shape[2], key.shape[2]
    kind = (*map(_half_octave, sizes), query.shape[3], bias.shape[-2:-1] == (1,),
            torch.get_num_threads())
    if kind not in _written_faster:
        fused, written = _seconds((F.scaled_dot_product_attention, written_out), parts, scale)
        _written_faster[kind] = fused > GAIN * written
    return _written_faster[kind]


def _half_octave(count: int) -> int:
    """Counts within a factor of about 1.4 are one kind."""
    return round(2 * math.log2(max(1, count)))


def _seconds(forms: tuple, parts: list[Tensor], scale: float | None) -> list[float]:
    """Least seconds of each of `forms`, in turns; the first turn, which prepares, counts not."""
    least = [math.inf] * len(forms)
    for turn in range(1 + ROUNDS):
        for place, form in enumerate(forms):
            start = time.perf_counter()
            form(*parts, scale=scale)
            if turn:
                least[place] = min(least[place], time.perf_counter() - start)
    return least
