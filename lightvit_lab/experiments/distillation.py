"""What does a teacher bring? One student, one budget, every objective; and where it brings nothing.

The pages of `chapters/distillation` show what these studies store. All runs of a seed see the same
pictures in the same order. An objective has the weight and the temperature that are its class's
own, so none is tuned to this set; nothing was chosen on the test pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from .. import checkpoint, data, models, training
from ..checkpoint import zoo
from ..distillation import distill
from ..distillation import feature_distillation as features
from ..distillation import response_distillation as responses
from .kit import SEEDS, Row, Run, Study, as_text, calls_of, cpu_timed, read_table, scored
from .stored_logits import stored_logits

STUDENT, DATASET, STEPS = "lab_vit_student", "cifar10", 200
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


def _untrained() -> nn.Module:
    torch.manual_seed(0)
    return models.create_model("lab_cnn").eval()


def _from_zoo(name: str) -> nn.Module:
    return checkpoint.load(f"zoo:{name}/{DATASET}")


TEACHERS: dict[str, Callable[[], nn.Module]] = {
    "small CNN": _small, "CNN": lambda: _from_zoo("lab_cnn"),
    "ViT": lambda: _from_zoo("lab_vit_teacher"), "an untrained teacher": _untrained,
    "a teacher with its classes shuffled": lambda: ShuffledClasses(_from_zoo("lab_cnn")).eval()}
OF_THE_ZOO = {"CNN": "lab_cnn", "ViT": "lab_vit_teacher",
              "a teacher with its classes shuffled": "lab_cnn"}


def trained_student(terms: Mapping[str, Any], teacher: str | None, labels: Any, stored: bool,
                    arguments: Mapping[str, Any], steps: int, seed: int) -> Run:
    """Train and score a student of `arguments` for `steps` times STEPS.

    `terms` are added to `labels` (None where a term has them in it). A `stored` teacher runs before
    the student. Seconds of the processor are those of the student's steps, and apart those of
    storing logits: about 0 where another row has stored them before.
    """
    train, test = (data.load(DATASET, split) for split in ("train", "test"))
    settings = {**SETTINGS, "steps": STEPS * steps, "seed": seed, "progress": False,
                "threads": torch.get_num_threads()}
    answers, teacher_seconds = TEACHERS[teacher]() if teacher else None, 0.0
    torch.manual_seed(seed)
    student = models.create_model(STUDENT, **arguments)
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
        arguments: Mapping[str, Any] | None = None, steps: int = 1) -> Row:
    """A row of a table, its objectives as text, such as "SoftTargets(temperature=2.0)"."""
    how = {"terms": {name: _objective(term) for name, term in (terms or {}).items()},
           "teacher": teacher, "labels": labels and _objective(labels), "stored": stored,
           "arguments": arguments or {}, "steps": steps}
    columns = {"leaf": leaf, "teacher": teacher, "stored": stored and teacher is not None,
               "objective": " + ".join(map(repr, objectives(how["labels"], how["terms"]).values()))}
    return Row(columns, ((trained_student, how),), seeds=SEEDS)


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
    return [DATASET, STEPS, sorted(SETTINGS.items()), f"Row({about})", seed, teacher]


def result(study: Study) -> dict[str, Any]:
    """Scores of every row for each seed, and of the teachers that it learnt from."""
    rows = study.by_label()
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
STUDIES = (Study("distillation_cifar10", result, ROWS, run, key, "distillation"),
           Study("distillation_limits", result, LIMITS, run, key, "distillation"))
