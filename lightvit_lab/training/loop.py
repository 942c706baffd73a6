"""The plain training loop: a fixed number of steps of AdamW, a warm-up and a cosine."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data import Pictures
from ..errors import LabError, require_range
from ..runtime import device
from .scores import Score, evaluate


@dataclass
class History:
    """What `fit` saw: the loss of every step, the scores on `validation`, seconds of training alone."""

    loss: list[float] = field(default_factory=list)
    scores: list[tuple[int, Score]] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0


def fit(model: nn.Module, data: Pictures, epochs: float = 1, lr: float = 1e-3, batch_size: int = 64,
        steps: int | None = None, weight_decay: float = 0.05, label_smoothing: float = 0.0, warmup: float = 0.1, seed: int = 0,
        validation: Pictures | None = None, checks: int = 1, threads: int | None = None, progress: bool = True) -> History:
    """Train `model` in place on `data` with AdamW, a linear warm-up over the share `warmup` of the steps, then a cosine.

    The number of steps is fixed beforehand: `steps`, or `epochs * len(data) / batch_size` rounded up. With `validation`, the
    model is scored there `checks` times, evenly spread. `threads=None` times one step at one and at all threads and
    keeps the faster (beside a busy neighbour two threads can be far slower than one). Raises LabError on arguments
    that make no run and on a loss that is not finite. AdamW: Loshchilov and Hutter, arXiv 1711.05101.
    """
    _require_run(data, epochs, lr, batch_size, steps, checks)
    model.to(device()).train()
    steps = steps or math.ceil(epochs * len(data) / batch_size)
    optimizer = torch.optim.AdamW(_decay_groups(model, weight_decay), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, steps, warmup))
    _set_threads(model, data, batch_size, threads)
    history, last = History(), time.perf_counter()
    for step, index in enumerate(_bar(_batches(len(data), batch_size, steps, seed), steps, progress), start=1):
        loss = _step(model, data.batch(index), optimizer, label_smoothing)
        schedule.step()
        history.loss.append(_require_finite(loss, step, lr))
        history.images_seen += len(index)
        if validation is not None and step * checks // steps > (step - 1) * checks // steps:
            history.seconds += time.perf_counter() - last
            history.scores.append((step, evaluate(model, validation)))
            model.train()
            last = time.perf_counter()
    history.seconds += time.perf_counter() - last
    model.eval()
    return history


def _step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, smoothing: float) -> float:
    inputs, labels = batch
    loss = F.cross_entropy(model(inputs.to(device())), labels.to(device()), label_smoothing=smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` batches of indices; every epoch is a new shuffle, and a batch may reach over the end of one."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:batch_size]
        order = order[batch_size:]


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices and filters only: biases, norms, the class token and the position table are left free."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    free = {name for name, value in trained if value.ndim < 2 or name.endswith(("cls_token", "pos_embed"))}
    return [{"params": [value for name, value in trained if name not in free], "weight_decay": weight_decay},
            {"params": [value for name, value in trained if name in free], "weight_decay": 0.0}]


def _set_threads(model: nn.Module, data: Pictures, batch_size: int, threads: int | None) -> None:
    """Use `threads`, or time a step on a copy of the model at one and at all threads and keep the faster."""
    if device().type != "cpu":
        return
    if threads is not None:
        return torch.set_num_threads(threads)
    batch = data.batch(torch.arange(min(batch_size, len(data))))
    seconds = {count: _seconds_of_step(copy.deepcopy(model), batch, count) for count in {1, torch.get_num_threads()}}
    torch.set_num_threads(min(seconds, key=seconds.get))


def _seconds_of_step(model: nn.Module, batch: tuple[Tensor, Tensor], threads: int, repeats: int = 3) -> float:
    torch.set_num_threads(threads)
    optimizer, seconds = torch.optim.SGD(model.parameters(), lr=0.0), []
    for _ in range(repeats):
        start = time.perf_counter()
        _step(model, batch, optimizer, 0.0)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _bar(batches: Iterable[Tensor], steps: int, progress: bool) -> Iterable[Tensor]:
    """A progress bar for whoever waits; none while a book is built, where it would only be noise on the page."""
    return tqdm(batches, total=steps, unit="step", disable=not progress or "LIGHTVIT_BOOK" in os.environ, leave=False)


def _require_run(data: Pictures, epochs: float, lr: float, batch_size: int, steps: int | None, checks: int) -> None:
    require_range("fit", "epochs", epochs, 0.0)
    require_range("fit", "lr", lr, 1e-12, 10)
    require_range("fit", "batch_size", batch_size, 1)
    require_range("fit", "checks", checks, 1)
    require_range("fit", "steps", 1 if steps is None else steps, 1)
    if epochs == 0 or len(data) == 0:
        raise LabError(f"fit: {epochs} epochs of {len(data)} pictures are no training; give epochs > 0 and some pictures")


def _require_finite(loss: float, step: int, lr: float) -> float:
    if not math.isfinite(loss):
        raise LabError(f"fit: the loss is {loss} at step {step}; the run diverged. Try lr={lr / 4:g}")
    return loss
