"""What every study stands on: a table of rows, runs that are cached as they end, scores, times.

The table of a study lies in a JSON file of its name, or in the module that makes its runs. A run is
written to the user's cache as it ends: a study that was stopped goes on, and several processes may
share one. Runs that the stored result holds already are taken from it, by the digest of all that
decides them: a new row costs that row. `studies` finds every `Study` of this package by scanning.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import profiling, runtime, storage, training
from ..errors import LabError
from . import results

SEEDS = (0, 1, 2)
Run = dict[str, Any]
Calls = tuple[tuple[Callable[..., Any], Mapping[str, Any]], ...]
_MEND = "it is made anew"


@dataclass(frozen=True)
class Row:
    """One line of a study's table: `columns`, stored as they are, and what makes its model.

    `calls` are (function, arguments), one after the other. Each stage runs for each seed, or for
    those that `own_seeds` gives it.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    calls: Calls = ()
    stages: tuple[str, ...] = ("",)
    seeds: tuple[int, ...] = (0,)
    own_seeds: Mapping[str, Iterable[int]] = field(default_factory=dict)

    @property
    def which(self) -> list[tuple[str, int]]:
        """(stage, seed) of each run."""
        return [(stage, seed) for stage in self.stages
                for seed in self.own_seeds.get(stage, self.seeds)]

    @property
    def recipe(self) -> str:
        """The calls as text."""
        return " -> ".join(f"{call.__name__}({as_text(how)})" for call, how in self.calls)

    def apply(self, model: Any) -> Any:
        """What the calls make of `model`."""
        for call, how in self.calls:
            model = call(model, **how)
        return model


@dataclass(frozen=True)
class Study:
    """A table of rows, under the name of the result that it stores; calling it gives that result.

    `run(row, stage, seed)` makes one run of a row. `key(row, stage, seed)` is all that decides that
    run: with a key, runs are cached under the name `cache`, and must have "test", "cpu_seconds" and
    "seconds". `result(study)` makes of them what is stored.
    """

    name: str
    result: Callable[[Study], dict[str, Any]]
    rows: Mapping[str, Row] = field(default_factory=dict)
    run: Callable[[Row, str, int], Run] | None = None
    key: Callable[[Row, str, int], list[Any]] | None = None
    cache: str = ""
    needs_gpu: bool = False

    def __call__(self) -> dict[str, Any]:
        return self.result(self)

    @property
    def seeds(self) -> list[int]:
        """Seeds of all rows."""
        return sorted({seed for row in self.rows.values() for _, seed in row.which} or {0})

    @cached_property
    def runs(self) -> dict[str, list[Run]]:
        """Per label the runs of every stage and seed, each made once."""
        return {label: self._runs(label, row) for label, row in self.rows.items()}

    def by_label(self) -> dict[str, dict[str, Any]]:
        """Per label the columns of the row, and its runs."""
        return {label: {**self.rows[label].columns, "runs": runs}
                for label, runs in self.runs.items()}

    def table(self) -> list[dict[str, Any]]:
        """Every run as one flat row: label, recipe, the columns of the row and those of the run."""
        return [{**run, "label": label, "recipe": row.recipe, **row.columns}
                for label, row in self.rows.items() for run in self.runs[label]]

    def _runs(self, label: str, row: Row) -> list[Run]:
        return [self._run(label, row, *which) for which in row.which]

    def _run(self, label: str, row: Row, stage: str, seed: int) -> Run:
        name = ", ".join(filter(None, (f"{self.name}: {label}", stage, f"seed {seed}")))

        def make() -> Run:
            torch.manual_seed(seed)
            return self.run(row, stage, seed)

        if self.key is None:
            print(name, flush=True)
            return make()
        digest = digest_of(self.key(row, stage, seed))
        return self.stored.get(digest) or {**cached(self.cache, digest, make, name), "key": digest}

    @cached_property
    def stored(self) -> dict[str, Run]:
        """Runs that the stored result of this study holds, by the digest of their key."""
        known = self.name in results.names()
        return {run["key"]: run for run in _runs_in(results.load(self.name).data)} if known else {}


def read_rows(name: str, functions: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of `name`.json beside this file, by label; their recipes call `functions`."""
    return {label: _row(functions, **row) for label, row in read_table(name).items()}


def read_table(name: str) -> dict[str, dict[str, Any]]:
    """What `name`.json beside this file says of each row, by label."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))


def _row(functions: Mapping[str, Any], recipe: str, stages: Iterable[str] = ("",),
         seeds: Iterable[int] = (0,), own_seeds: Mapping[str, Iterable[int]] | None = None,
         **columns: Any) -> Row:
    calls = calls_of(recipe, functions)
    return Row(columns, calls, tuple(stages), tuple(seeds), own_seeds or {})


def calls_of(recipe: str, functions: Mapping[str, Any]) -> Calls:
    """(function, arguments) of each call in "prune_mlp(ratio=0.5) -> prune_heads(ratio=0.25)".

    None in "", the recipe of a model that is left as it is.
    """
    steps = [ast.parse(step, mode="eval").body for step in recipe.split(" -> ") if step]
    return tuple((functions[step.func.id], _arguments(step)) for step in steps)


def _arguments(call: ast.Call) -> dict[str, Any]:
    return {word.arg: ast.literal_eval(word.value) for word in call.keywords}


def as_text(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are written in a call."""
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def cache_file(name: str) -> Path:
    """A file in the user's cache, in the folder of studies. Raises LabError where none can be."""
    path = runtime.cache() / "studies" / name
    with storage.refused(f"studies: {path.parent} cannot be made",
                         "set LIGHTVIT_CACHE to a folder that can be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def digest_of(key: list[Any]) -> str:
    """A short name for `key`, all that decides a run."""
    return hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:20]


def _runs_in(stored: Any) -> Iterator[Run]:
    """Every run with a key, wherever it stands in a stored result."""
    if isinstance(stored, dict) and "key" in stored:
        yield stored
    elif isinstance(stored, (dict, list)):
        for part in stored.values() if isinstance(stored, dict) else stored:
            yield from _runs_in(part)


def cached(study: str, digest: str, make: Callable[[], Run], label: str) -> Run:
    """What `make()` returned where the digest of its key was the same; else made and written.

    `label` is printed. A damaged file is made anew; what cannot be written is returned, with a
    warning.
    """
    path = runtime.cache() / "studies" / f"{study}-{digest}.json"
    try:
        if storage.is_file(path):
            return _read(path)
    except LabError as error:
        warnings.warn(str(error), stacklevel=2)
    run = make()
    print(f"{label}: test {run['test']}, {run['cpu_seconds']} s", flush=True)
    try:
        storage.write_json("studies", path, run, make_folder=True)
    except LabError as error:
        warnings.warn(f"{error}. The study goes on, and makes this run again at its next start",
                      stacklevel=2)
    return json.loads(json.dumps(run))


def _read(path: Path) -> Run:
    """A cached run. Raises LabError on a damaged file."""
    run = storage.read_json("studies", path, _MEND)
    fields = {"test": object, "cpu_seconds": float}
    storage.require_fields(f"studies: {path}", run, fields, _MEND)
    return run


def cpu_timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What `make()` returned, and the seconds of the processor: nearer to its cost alone."""
    start = process_time()
    result = make()
    return result, round(process_time() - start, 1)


def scored(score: training.Score) -> dict[str, float]:
    """An accuracy and its 95 % interval, as results hold them."""
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4),
            "test_high": round(score.high, 4)}


def times(models: Mapping[str, nn.Module], base: str, batches: Mapping[str, Tensor],
          budget_s: float, **how: int) -> dict[str, dict[str, Any]]:
    """Per label its `speed` against `base`, measured in turns; `batches` are inputs by ending."""
    rows: dict[str, dict[str, Any]] = {label: {} for label in models}
    for ending, inputs in batches.items():
        measured = profiling.measure(models, inputs, budget_s, threads=torch.get_num_threads())
        for label in models:
            rows[label] |= speed(measured, base, label, ending, **how)
    return rows


def speed(measured: profiling.Timings, base: str, label: str, ending: str = "", digits: int = 3,
          pictures: int = 1) -> dict[str, Any]:
    """Latency in ms per 1 of `pictures` with its interval, and the time of `base` over it with its.

    `ending` goes into the keys: "_1" gives latency_1_ms.
    """
    one, ratio = measured[label], measured.ratio(base, label)
    return {f"latency{ending}_ms": round(one.latency_ms / pictures, digits),
            f"interval{ending}_ms": [round(edge / pictures, digits) for edge in one.interval_ms],
            f"speedup{ending}": [round(edge, 3) for edge in ratio.estimate]}


def averages(values: list[float], count: int = 60) -> list[float]:
    """Averages of `count` stretches of nearly equal length (fewer if there are not enough)."""
    count = min(count, len(values))
    edges = [len(values) * stretch // count for stretch in range(count + 1)]
    stretches = (values[first:last] for first, last in zip(edges, edges[1:]))
    return [round(sum(stretch) / len(stretch), 4) for stretch in stretches]
