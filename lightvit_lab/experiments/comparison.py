"""Candidates trained alike, from nothing, and scored: studies whose rows are models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from .. import data, models, profiling, training
from ..training.saving import describe_pictures
from .kit import SEEDS, Row, Run, Study, cpu_timed, read_table, scored

Splits = Mapping[str, data.Pictures]


def candidate(model: str, arguments: Mapping[str, Any] | None = None,
              seeds: tuple[int, ...] = SEEDS, **own: Any) -> Row:
    """A row: a model of `create_model`, and what is its own in the call of `fit`."""
    return Row({"model": model, "arguments": arguments or {}, **own}, seeds=seeds)


def candidates(table: str, seeds: tuple[int, ...] = SEEDS) -> dict[str, Row]:
    """The rows of a table of candidates."""
    return {label: candidate(seeds=seeds, **about) for label, about in read_table(table).items()}


def load_splits(name: str, **how: Any) -> Splits:
    """Every split of a set."""
    return {split: data.load(name, split, **how) for split in data.SPLITS}


def comparison(name: str, dataset: str, rows: Mapping[str, Row],
               result: Callable[[Splits, dict[str, Any]], dict[str, Any]],
               settings: Mapping[str, Any], **how: Any) -> Study:
    """A study of candidates on `data.load(dataset, **how)`, with `settings` of `fit` for all.

    `result(splits, rows)` is stored. With one seed all candidates see the same pictures in the same
    order.
    """
    splits = cache(lambda: load_splits(dataset, **how))

    def run(row: Row, _stage: str, seed: int) -> Run:
        own = dict(row.columns)
        model = models.create_model(own.pop("model"), **own.pop("arguments"))
        return trained(model, splits(), seed, **settings, **own)

    def key(row: Row, _stage: str, seed: int) -> list[Any]:
        about = {split: describe_pictures(pictures) for split, pictures in splits().items()}
        return [about, sorted(settings.items()), dict(row.columns), seed]

    def finish(study: Study) -> dict[str, Any]:
        size = (3, *splits()["train"].pixels.shape[-2:])
        stored = study.by_label()
        for row in stored.values():
            cost = profiling.count(models.create_model(row["model"], **row["arguments"]), size)
            row |= {"params": cost.params, "macs": cost.macs}
        return result(splits(), stored)

    return Study(name, finish, rows, run, key, "comparison")


def trained(model: nn.Module, splits: Splits, seed: int, **settings: Any) -> Run:
    """Train on `train`, score on `val` on the way (`checks` times), and at the end on `test`."""
    settings = {"threads": torch.get_num_threads(), "precision": "float32", "attention": "fused",
                **settings}
    history, cpu_seconds = cpu_timed(lambda: training.fit(
        model, splits["train"], seed=seed, validation=splits["val"], **settings))
    return {"seed": seed, "seconds": round(history.seconds, 1), "cpu_seconds": cpu_seconds,
            **scored(training.evaluate(model, splits["test"])),
            "validation": [[step, round(check.accuracy, 4)] for step, check in history.scores]}
