"""What does a teacher bring? One student, one budget, every objective; and where it brings nothing.

The pages of `chapters/distillation` show what these studies store. All runs of a seed see the same
pictures in the same order. An objective stands beside the labels with the weight and the
temperature that its class has unless told otherwise, so none is tuned to this set; nothing was
chosen on the test pictures.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .. import checkpoint, data, models, training
from ..checkpoint import zoo
from ..distillation import distill
from ..distillation import feature_distillation as features
from ..distillation.response_distillation import objectives as responses
from ..distillation.response_distillation.stored_logits import store_logits
from ..distillation.model_outputs import LiveTeacher
from .kit import SEEDS, Row, Run, Study, place, scored, spelled, total_seconds

STUDENT, DATASET, STEPS = "lab_vit_student", "cifar10", 200
SETTINGS = {"batch_size": 128, "lr": 9e-3, "optimizer": "muon", "schedule": "linear",
            "warmup": 0.2, "augment": ("flip", "crop")}
TEMPERATURE, ATTENTION, STRUCTURE, MIMICKING = (
    "Distillation Temperature Variants", "Attention Feature Distillation",
    "Structured Feature Distillation", "Direct Feature Mimicking")
FUNCTION, SOFT = "Objective Function Design", "Empowering Soft Labels"


class ShuffledClasses(nn.Module):
    """A teacher that knows the pictures and calls each class by the next one's name."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(inputs).roll(1, dims=1)


@lru_cache(maxsize=1)
def _small() -> nn.Module:
    """A CNN of a few thousand parameters, trained for as many steps as the student."""
    torch.manual_seed(0)
    model = models.create_model("lab_cnn", widths=(8, 16, 32), stem_stride=2)
    training.fit(model, data.load(DATASET), steps=STEPS, progress=False, threads=1, **SETTINGS)
    return model.eval()


def _untrained() -> nn.Module:
    torch.manual_seed(0)
    return models.create_model("lab_cnn").eval()


def _cnn() -> nn.Module:
    return checkpoint.load("zoo:lab_cnn/cifar10")


TEACHERS: dict[str, Callable[[], nn.Module]] = {
    "small CNN": _small, "CNN": _cnn,
    "ViT": lambda: checkpoint.load("zoo:lab_vit_teacher/cifar10"),
    "an untrained teacher": _untrained,
    "a teacher with its classes shuffled": lambda: ShuffledClasses(_cnn()).eval()}
OF_THE_ZOO = {"CNN": "lab_cnn", "ViT": "lab_vit_teacher",
              "a teacher with its classes shuffled": "lab_cnn"}


def trained_student(terms: Mapping[str, Any], teacher: str | None, labels: responses.Labels | None,
                    stored: bool, arguments: Mapping[str, Any], steps: int, seed: int) -> Run:
    """Train and score a student of `arguments` for `steps` times STEPS.

    `terms` stand beside `labels` (None where a term has them in it). A `stored` teacher runs before
    the student. Seconds of the processor are those of the student's steps, and apart those of
    storing logits: about 0 where another row has stored them before.
    """
    train, test = (data.load(DATASET, split) for split in ("train", "test"))
    settings = {**SETTINGS, "steps": STEPS * steps, "seed": seed, "progress": False,
                "threads": torch.get_num_threads()}
    answers = TEACHERS[teacher]() if teacher else None
    torch.manual_seed(seed)
    student = models.create_model(STUDENT, **arguments)
    start = time.process_time()
    if answers is not None and stored:
        answers = _stored(answers, train, settings)
    asked = time.process_time()
    history = (training.fit(student, train, label_smoothing=labels.smoothing, **settings)
               if answers is None else
               distill(student, answers, train, objectives(labels, terms), **settings))
    ended = time.process_time()
    return {"seed": seed, "seconds": round(history.seconds, 1),
            "cpu_seconds": round(ended - asked, 1), "teacher_cpu_seconds": round(asked - start, 1),
            **scored(training.evaluate(student, test))}


def objectives(labels: responses.Labels | None, terms: Mapping[str, Any]) -> dict[str, Any]:
    """What `distill` adds up."""
    return ({} if labels is None else {"labels": labels}) | dict(terms)


def _stored(teacher: nn.Module, train: data.Pictures, settings: Mapping[str, Any]) -> Any:
    """What `teacher` says of every view of a run, from the cache if it was asked before."""
    about = ("steps", "batch_size", "seed", "augment", "progress")
    views = {name: settings[name] for name in about}
    asked = f"{LiveTeacher(teacher).identity} {views} {DATASET}"
    name = f"logits-{hashlib.sha256(asked.encode()).hexdigest()[:20]}.safetensors"
    return store_logits(teacher, train, place(name), **views)


def _row(leaf: str = "none", terms: Mapping[str, Any] | None = None, teacher: str | None = "CNN",
         labels: responses.Labels | None = responses.Labels(), stored: bool = True,
         arguments: Mapping[str, Any] | None = None, steps: int = 1) -> Row:
    given = {"terms": terms or {}, "teacher": teacher, "labels": labels, "stored": stored,
             "arguments": arguments or {}, "steps": steps}
    shown = {"leaf": leaf, "teacher": teacher, "stored": stored and teacher is not None,
             "objective": " + ".join(map(repr, objectives(labels, terms or {}).values()))}
    return Row(shown, ((trained_student, given),), seeds=SEEDS)


def _feature(leaf: str, teacher: str = "CNN", **terms: Any) -> Row:
    spaced = {name.replace("_", " "): term for name, term in terms.items()}
    return _row(leaf, spaced, teacher, stored=False)


def soft(**changes: Any) -> dict[str, Any]:
    """The term of soft targets, by itself."""
    return {"soft targets": responses.SoftTargets(**changes)}


ROWS = {
    "labels alone": _row(teacher=None),
    "label smoothing": _row(SOFT, teacher=None, labels=responses.Labels(smoothing=0.1)),
    "soft targets": _row(FUNCTION, soft(), stored=False),
    "soft targets, stored": _row(SOFT, soft()),
    "hard targets": _row(FUNCTION, {"hard targets": responses.HardTargets()}),
    "standardised": _row(TEMPERATURE, soft(temperature=2.0, standardized=True)),
    "annealed": _row(TEMPERATURE, soft(temperature=8.0, final_temperature=1.0, steps=STEPS)),
    "per sample": _row(TEMPERATURE, {"per sample": responses.PerSample()}),
    "distillation token": _row(FUNCTION, {"token": responses.DistillationToken()}, labels=None,
                               arguments={"distilled": True}),
    "decoupled": _row(FUNCTION, {"decoupled": responses.Decoupled()}),
    "correlation": _row(FUNCTION, {"correlation": responses.Correlation()}),
    "attention maps": _feature(ATTENTION, attention_maps=features.AttentionTransfer()),
    "attention weights": _feature(ATTENTION, "ViT", attention_weights=features.AttentionWeights()),
    "similarity": _feature(STRUCTURE, similarity=features.Similarity()),
    "relational": _feature(STRUCTURE, relational=features.Relational()),
    "manifold": _feature(STRUCTURE, manifold=features.Manifold()),
    "hints": _feature(MIMICKING, hints=features.Hint()),
    "shallow mimic + deep generation": _feature(
        MIMICKING, "ViT", shallow=features.ShallowMimic(), deep=features.DeepGeneration()),
    "lifted last layer": _feature(MIMICKING, lifted=features.LiftedLastLayer()),
}
LIMITS = {
    "labels alone": _row(teacher=None),
    **{f"soft targets, {name}": _row(SOFT, soft(), name) for name in TEACHERS},
    "labels alone, long": _row(teacher=None, steps=3),
    "soft targets, long": _row(SOFT, soft(), steps=3),
}


def run(row: Row, _stage: str, seed: int) -> Run:
    """One student."""
    return trained_student(**row.calls[0][1], seed=seed)


def key(row: Row, _stage: str, seed: int) -> list[Any]:
    """All that decides a run, also the weights of its teacher."""
    name = OF_THE_ZOO.get(row.shown["teacher"] or "")
    teacher = zoo.card(f"{name}/{DATASET}")["sha256"] if name else ""
    about = spelled({"leaf": row.shown["leaf"], **row.calls[0][1]})
    return [DATASET, STEPS, sorted(SETTINGS.items()), f"Row({about})", seed, teacher]


def result(study: Study) -> dict[str, Any]:
    """Scores of every row for each seed, and of the teachers that it learnt from."""
    rows = study.by_label()
    names = [row["teacher"] for row in rows.values()]
    return {"dataset": DATASET, "student": STUDENT, "steps": STEPS,
            "batch_size": SETTINGS["batch_size"], "settings": dict(SETTINGS),
            "teachers": {name: _described(TEACHERS[name]()) for name in TEACHERS if name in names},
            "rows": rows, "seconds": total_seconds(rows.values())}


def _described(teacher: nn.Module) -> dict[str, Any]:
    return {"model": type(teacher).__name__,
            "params": sum(value.numel() for value in teacher.parameters()),
            **scored(training.evaluate(teacher, data.load(DATASET, "test")))}


STUDIES = (Study("distillation_cifar10", result, ROWS, run, key, "distillation"),
           Study("distillation_limits", result, LIMITS, run, key, "distillation"))
