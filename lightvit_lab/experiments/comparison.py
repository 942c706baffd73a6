"""Candidates trained alike, from nothing, and scored: studies whose rows are models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .. import data, models, profiling, training
from ..training.saving import describe_pictures
from .kit import SEEDS, Row, Run, Study, scored, total_seconds

Splits = Mapping[str, data.Pictures]
CREATED = ("model", "arguments")        # the rest of a row is for `fit`


def candidate(model: str, arguments: Mapping[str, Any] | None = None,
              seeds: tuple[int, ...] = SEEDS, **own: Any) -> Row:
    """A row: a model of `create_model`, and what is its own in the call of `fit`."""
    return Row({"model": model, "arguments": arguments or {}, **own}, seeds=seeds)


def load_splits(name: str, **how: Any) -> Splits:
    """Every split of a set."""
    return {split: data.load(name, split, **how) for split in data.SPLITS}


def comparison(name: str, load: Callable[[], Splits], rows: Mapping[str, Row],
               result: Callable[[Splits, dict[str, Any]], dict[str, Any]],
               **settings: Any) -> Study:
    """A study of candidates on the splits that `load` gives, `settings` for all of them.

    `result(splits, rows)` is stored. With one seed all candidates see the same pictures in the same
    order.
    """
    splits = lru_cache(maxsize=1)(load)

    def run(row: Row, _stage: str, seed: int) -> Run:
        own = {name: value for name, value in row.shown.items() if name not in CREATED}
        return trained(_create(row.shown), splits(), seed, **settings, **own)

    def key(row: Row, _stage: str, seed: int) -> list[Any]:
        about = {split: describe_pictures(pictures) for split, pictures in splits().items()}
        return [about, sorted(settings.items()), dict(row.shown), seed]

    def finish(study: Study) -> dict[str, Any]:
        size = tuple(splits()["train"].pixels.shape[-2:])
        found = {label: {**row, **_cost(row, size)} for label, row in study.by_label().items()}
        return {**result(splits(), found), "seconds": total_seconds(found.values())}

    seeds = next(iter(rows.values())).seeds
    return Study(name, finish, rows, run, key, "comparison", seeds)


def _create(about: Mapping[str, Any]) -> nn.Module:
    return models.create_model(about["model"], **about["arguments"])


def _cost(row: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, int]:
    """Parameters, and MACs for one picture."""
    cost = profiling.count(_create(row), (3, *size))
    return {"params": cost.params, "macs": cost.macs}


def trained(model: nn.Module, splits: Splits, seed: int, **settings: Any) -> Run:
    """Train on `train`, score on `val` on the way (`checks` times), and at the end on `test`."""
    start = time.process_time()      # of the processor: nearer to what a run costs alone
    history = training.fit(model, splits["train"], seed=seed, validation=splits["val"],
                           precision="float32", attention="fused",
                           **{"threads": torch.get_num_threads(), **settings})
    cpu_seconds = time.process_time() - start
    score = training.evaluate(model, splits["test"])
    return {"seed": seed, "seconds": round(history.seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1), **scored(score),
            "validation": [[step, round(check.accuracy, 4)] for step, check in history.scores]}
