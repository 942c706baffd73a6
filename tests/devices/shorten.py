"""What takes long and says nothing about devices, cut: two steps, two rounds."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

STEPS, ROUNDS = 2, 2  # of a training; of a timing
LARGEST = 2  # pictures in the largest batch that is tried
LOADED = 72  # pictures of a set
MORE = {"token_pruning": 300}  # where a page indexes pictures of 256
BATCH = 64  # pictures that `evaluate` scores at a time: sets of either size make several batches
Replace = Callable[[Any, str, Any], None]  # setattr, or that of pytest's monkeypatch


def shorten(put: Replace = setattr) -> None:
    """Cut trainings and timings. A name that is gone raises here: then mend this list."""

    def replace(room: str, name: str, change: Callable[[Any], Any]) -> None:
        owner = importlib.import_module(f"lightvit_lab.{room}")
        put(owner, name, change(getattr(owner, name)))

    replace("training.loop", "checked_settings", fewer_steps)
    replace(
        "distillation.response_distillation.stored_logits",
        "_run_teacher",
        repeated,
    )
    for name, value in (("WARM_UP", 1), ("LEAST_ROUNDS", ROUNDS), ("PRECISE", float("inf"))):
        replace("profiling.timing", name, lambda _, value=value: value)
    replace("profiling.roofline", "_WARM_UP", lambda _: 0)
    replace(
        "profiling.roofline",
        "_times",
        lambda times: lambda model, inputs, _: times(model, inputs, ROUNDS),
    )
    replace(
        "profiling.batches",
        "_search",
        lambda search: lambda speed, _, *rest: search(speed, LARGEST, *rest),
    )
    replace("profiling.peaks", "_least_seconds", lambda least: lambda call, _: least(call, 0.0))
    replace("profiling.peaks", "_SIZES", lambda sizes: dict.fromkeys(sizes, (64,)))
    replace("profiling.peaks", "_COPIED", lambda copied: dict.fromkeys(copied, 2**20))


def fewer_steps(settings: Callable[..., Any]) -> Callable[..., Any]:
    """`checked_settings` of a training that ends after STEPS steps."""
    return lambda steps, **named: settings(steps=min(steps, STEPS), **named)


def repeated(run: Callable[..., Any]) -> Callable[..., Any]:
    """`_run_teacher` for STEPS steps, its logits repeated for the others."""

    def short(live: Any, data: Any, made_for: dict[str, Any], *rest: Any) -> Any:
        steps = made_for["steps"]
        rows, classes = run(live, data, {**made_for, "steps": min(steps, STEPS)}, *rest)
        times = -(-steps // STEPS)
        most = steps * made_for["batch_size"]
        long = {name: value.repeat(times, *[1] * (value.dim() - 1))[:most]
                for name, value in rows.items()}
        return long, classes

    return short


def for_pages(page: str) -> None:
    """Make a page's cells run here: few pictures, no download, no compiling, narrow models.

    `page` is its name without a suffix.
    """
    import torch

    from lightvit_lab import data, explain, models, training

    models.pretrained = lambda name, download=False, **named: (
        models.create_model(name, embed_dim=96, **named).eval()
    )
    load, most = data.load, MORE.get(page, LOADED)
    data.load = lambda *given, count=None, **named: load(
        *given, count=min(count or most, most), **named
    )
    explain.localize = functools.partial(explain.localize, steps=STEPS)
    evaluate = inspect.unwrap(training.evaluate)
    evaluate.__defaults__ = (BATCH, *evaluate.__defaults__[1:])
    torch.compile = lambda model=None, **options: (
        model if model is not None else lambda function: function
    )
    torch.nn.Module.compile = lambda module, *arguments, **options: None
