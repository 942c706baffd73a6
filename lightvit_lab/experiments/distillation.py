"""What does a teacher bring? One student, one budget, every objective; and where it brings nothing.

The pages of `chapters/distillation` show what these studies store. All runs of a seed see the same
pictures in the same order. An objective has the weights that its authors' code has, or its class's
own, and a warm-up is as long a part of the run as theirs; none is tuned to this set, and nothing
was chosen on the test pictures. What a step costs is measured at the end, all rows in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, models, profiling, training
from ..checkpoint import zoo
from ..distillation import distill
from ..distillation import feature_distillation as features
from ..distillation import response_distillation as responses
from ..distillation.model_outputs import collect_outputs
from ..profiling.timing import summary
from .kit import SEEDS, Row, Run, Study, as_text, calls_of, cpu_timed, read_table, scored
from .stored_logits import deciding, stored_logits

STUDENT, DATASET, STEPS = "lab_vit_student", "cifar10", 200
TURNS, STEPS_A_TURN = 9, 4           # of timing; the first step of a turn is not counted
WEIGHTS = ("weight", "alpha", "beta", "gamma", "distance", "angle", "intra", "inter", "sampled")
SETTINGS = {"batch_size": 128, "lr": 9e-3, "optimizer": "muon", "schedule": "linear",
            "warmup": 0.2, "augment": ("flip", "crop")}


class ShuffledClasses(nn.Module):
    """A teacher that knows the pictures and calls each class by the next one's name."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(inputs).roll(1, dims=1)


@cache
def _small() -> nn.Module:
    """A CNN of a few thousand parameters, trained for as many steps as the student."""
    torch.manual_seed(0)
    model = models.create_model("lab_cnn", widths=(8, 16, 32), stem_stride=2)
    training.fit(model, data.load(DATASET), steps=STEPS, progress=False, threads=1, **SETTINGS)
    return model.eval()


@cache
def _like() -> nn.Module:
    """A student like those that it teaches, trained as they are on the labels alone."""
    torch.manual_seed(10)
    model = models.create_model(STUDENT)
    training.fit(model, data.load(DATASET), steps=STEPS, seed=10, progress=False, threads=1,
                 **SETTINGS)
    return model.eval()


def _untrained() -> nn.Module:
    torch.manual_seed(0)
    return models.create_model("lab_cnn").eval()


def _from_zoo(name: str) -> nn.Module:
    return checkpoint.load(f"zoo:{name}/{DATASET}")


TEACHERS: dict[str, Callable[[], nn.Module]] = {
    "small CNN": _small, "a student like it": _like, "CNN": lambda: _from_zoo("lab_cnn"),
    "ViT": lambda: _from_zoo("lab_vit_teacher"), "an untrained teacher": _untrained,
    "a teacher with its classes shuffled": lambda: ShuffledClasses(_from_zoo("lab_cnn")).eval()}
OF_THE_ZOO = {"CNN": "lab_cnn", "ViT": "lab_vit_teacher",
              "a teacher with its classes shuffled": "lab_cnn"}


def create_student(arguments: Mapping[str, Any], lift: int | None = None) -> nn.Module:
    """A fresh student of `arguments`, its last layer lifted to a width of `lift`."""
    student = models.create_model(STUDENT, **arguments)
    return features.lift_last_layer(student, lift) if lift else student


def trained_student(terms: Mapping[str, Any], teacher: str | None, labels: Any, stored: bool,
                    arguments: Mapping[str, Any], steps: int, seed: int,
                    lift: int | None = None) -> Run:
    """Train and score a student of `create_student(arguments, lift)` for `steps` times STEPS.

    `terms` are added to `labels` (None where a term has them in it). A `stored` teacher runs before
    the student. Seconds of the processor are those of the student's steps, and apart those of
    storing logits: about 0 where another row has stored them before.
    """
    train, test = (data.load(DATASET, split) for split in ("train", "test"))
    settings = {**SETTINGS, "steps": STEPS * steps, "seed": seed, "progress": False,
                "threads": torch.get_num_threads()}
    answers, teacher_seconds = TEACHERS[teacher]() if teacher else None, 0.0
    torch.manual_seed(seed)
    student = create_student(arguments, lift)
    if teacher and stored:
        answers, teacher_seconds = cpu_timed(
            lambda: stored_logits(answers, train, settings, DATASET))
    history, seconds = cpu_timed(lambda: _fit(student, answers, train, labels, terms, settings))
    return {"seed": seed, "seconds": round(history.seconds, 1), "cpu_seconds": seconds,
            "teacher_cpu_seconds": teacher_seconds, **scored(training.evaluate(student, test))}


def _fit(student: nn.Module, teacher: Any, train: data.Pictures, labels: Any,
         terms: Mapping[str, Any], settings: Mapping[str, Any]) -> training.History:
    if teacher is None:
        return training.fit(student, train, label_smoothing=labels.smoothing, **settings)
    return distill(student, teacher, train, objectives(labels, terms), **settings)


def objectives(labels: Any, terms: Mapping[str, Any]) -> dict[str, Any]:
    """What `distill` adds up."""
    return ({"labels": labels} if labels else {}) | dict(terms)


def row(leaf: str = "none", terms: Mapping[str, str] | None = None, teacher: str | None = "CNN",
        labels: str | None = "Labels()", stored: bool = True,
        arguments: Mapping[str, Any] | None = None, steps: int = 1, **more: Any) -> Row:
    """A row of a table, its objectives as text, such as "SoftTargets(temperature=2.0)".

    `more` is a `lift`, and a `version`: a word that sets runs apart from older ones of its key.
    """
    version = more.pop("version", None)
    how = {"terms": {name: _objective(term) for name, term in (terms or {}).items()},
           "teacher": teacher, "labels": labels and _objective(labels), "stored": stored,
           "arguments": arguments or {}, "steps": steps, **more}
    added = objectives(how["labels"], how["terms"])
    columns = {"leaf": leaf, "teacher": teacher, "stored": stored and teacher is not None,
               "objective": " + ".join(map(repr, added.values())), "steps": STEPS * steps,
               "weights": {name: _weights(one) for name, one in added.items()},
               "version": version}
    return Row(columns, ((trained_student, how),), seeds=SEEDS)


def _weights(objective: Any) -> dict[str, float]:
    """The weight of an objective, and those of its parts."""
    names = [field.name for field in fields(objective) if field.name in WEIGHTS]
    return {name: getattr(objective, name) for name in names}


def _objective(text: str) -> Any:
    (objective, how), = calls_of(text, {**vars(features), **vars(responses)})
    return objective(**how)


def run(row: Row, _stage: str, seed: int) -> Run:
    """One student."""
    return trained_student(**row.calls[0][1], seed=seed)


def key(row: Row, _stage: str, seed: int) -> list[Any]:
    """All that decides a run, also the weights of its teacher."""
    name = OF_THE_ZOO.get(row.columns["teacher"])
    teacher = zoo.card(f"{name}/{DATASET}")["sha256"] if name else ""
    about = as_text({"leaf": row.columns["leaf"], **row.calls[0][1]})
    version = row.columns["version"]
    return [DATASET, STEPS, sorted(SETTINGS.items()), f"Row({about})", seed, teacher,
            *filter(None, [version])]


def timed_result(study: Study) -> dict[str, Any]:
    """What `result` stores, and what a step of each row takes beside one on labels alone."""
    found, times = result(study), step_times(study.rows)
    for label, row in found["rows"].items():
        row |= times[label]
    last = {name: last_layer(TEACHERS[name]()) for name in found["teachers"] if name in OF_THE_ZOO}
    return {**found, "turns": TURNS, "last_layers": last}


def last_layer(teacher: nn.Module, count: int = 500) -> dict[str, Any]:
    """How many directions the teacher's last layer fills on test pictures, and its shape.

    `single` is the mean over pictures, `together` is of all their tokens, each at 95 % of the sum
    of squares; `beyond_student` is the share of it that no width of the student's spans.
    """
    inputs, _ = data.load(DATASET, "test", count=count).batch(torch.arange(count))
    with torch.no_grad():
        tokens = torch.cat([collect_outputs(teacher, batch, features=(-1,)).tokens(-1)
                            for batch in inputs.split(100)])
    single = [directions(picture) for picture in tokens]
    energy = squared_singular_values(tokens.flatten(0, 1))
    beyond = energy[models.create_model(STUDENT).dim :].sum() / energy.sum()
    return {"pictures": count, "places": tokens.shape[1], "width": tokens.shape[2],
            "single": round(sum(single) / len(single), 1),
            "together": directions(tokens.flatten(0, 1)), "beyond_student": round(beyond.item(), 4)}


def directions(tokens: Tensor, share: float = 0.95) -> int:
    """How many directions hold `share` of the sum of squares of tokens (N, D)."""
    energy = squared_singular_values(tokens)
    return 1 + int((energy.cumsum(0) / energy.sum() < share).sum())


def squared_singular_values(tokens: Tensor) -> Tensor:
    """Squares of the singular values of tokens (N, D), falling: (D,), by D x D products."""
    tokens = tokens.double()
    return torch.linalg.eigvalsh(tokens.T @ tokens).flip(0).clamp_min(0)


def step_times(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """Per label the seconds of the processor of a step, all rows in turns, from before its teacher.

    `step_ms` with its interval, and `step_ratio` to the first row: middle, low and high of the
    ratios within each turn. A live teacher's pass is in the step, a stored one's is not.
    """
    train, seconds = data.load(DATASET), {label: [] for label in rows}
    settings = {**SETTINGS, "steps": STEPS_A_TURN, "seed": 0, "progress": False,
                "threads": torch.get_num_threads(), "precision": "float32", "attention": "fused"}
    with TemporaryDirectory() as folder:
        hows = {label: row.calls[0][1] for label, row in rows.items()}
        teachers = {label: _ready(how, train, settings, Path(folder))
                    for label, how in hows.items()}
        for turn in range(TURNS):
            for label, how in list(hows.items())[:: 1 if turn % 2 else -1]:
                seconds[label].append(_seconds_a_step(how, teachers[label], train, settings))
    timings = {label: summary(values, SETTINGS["batch_size"]) for label, values in seconds.items()}
    measured = profiling.Timings(timings, f"{TURNS} turns", {})
    return {label: _step(measured, label, next(iter(rows))) for label in timings}


def _step(measured: profiling.Timings, label: str, base: str) -> dict[str, Any]:
    """Milliseconds of one step of `label` with their interval, and its time over that of `base`."""
    one, ratio = measured[label], measured.ratio(label, base)
    return {"step_ms": round(one.latency_ms, 1),
            "step_interval_ms": [round(edge, 1) for edge in one.interval_ms],
            "step_ratio": [round(edge, 3) for edge in ratio.estimate]}


def _ready(how: Mapping[str, Any], train: data.Pictures, settings: Mapping[str, Any],
           folder: Path) -> Any:
    """The teacher of a row, live or stored for the few steps that are timed; None without."""
    if how["teacher"] is None:
        return None
    teacher = TEACHERS[how["teacher"]]()
    if not how["stored"]:
        return teacher
    path = folder / f"{how['teacher']}.safetensors"
    return responses.store_logits(teacher, train, path, **deciding(settings))


def _seconds_a_step(how: Mapping[str, Any], teacher: Any, train: data.Pictures,
                    settings: Mapping[str, Any]) -> float:
    """Median seconds of the processor between the ends of two steps of a fresh student."""
    ends: list[float] = []
    settings = {**settings, "callback": lambda *_: ends.append(process_time())}
    student = create_student(how["arguments"], how.get("lift"))
    _fit(student, teacher, train, how["labels"], how["terms"], settings)
    return median(later - before for before, later in zip(ends, ends[1:]))


def result(study: Study) -> dict[str, Any]:
    """Scores of every row for each seed, and of the teachers that it learnt from."""
    rows = study.by_label()
    for label, row in study.rows.items():
        how = row.calls[0][1]
        student = create_student(how["arguments"], how.get("lift"))
        rows[label]["params"] = sum(value.numel() for value in student.parameters())
    names = [row["teacher"] for row in rows.values()]
    return {"dataset": DATASET, "student": STUDENT, "steps": STEPS,
            "batch_size": SETTINGS["batch_size"], "settings": dict(SETTINGS),
            "teachers": {name: _described(TEACHERS[name]()) for name in TEACHERS if name in names},
            "rows": rows}


def _described(teacher: nn.Module) -> dict[str, Any]:
    return {"model": type(teacher).__name__,
            "params": sum(value.numel() for value in teacher.parameters()),
            **scored(training.evaluate(teacher, data.load(DATASET, "test")))}


def _rows(name: str) -> dict[str, Row]:
    return {label: row(**about) for label, about in read_table(name).items()}


ROWS, LIMITS = _rows("distillation_cifar10"), _rows("distillation_limits")
STUDIES = (Study("distillation_cifar10", timed_result, ROWS, run, key, "distillation"),
           Study("distillation_limits", result, LIMITS, run, key, "distillation"))
