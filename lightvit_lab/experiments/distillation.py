"""What does a teacher bring? One student, one budget, every objective; and where a teacher brings nothing.

The pages of `chapters/distillation` show what these studies store. All runs of a seed see the same pictures in the same
order. An objective stands beside the labels with the weight and the temperature that its class has unless told
otherwise, so none is tuned to this set; nothing was chosen on the test pictures. Each run is kept in the user's cache as
it ends, so that a study that was stopped goes on, and several processes may share one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .. import checkpoint, data, models, training
from ..checkpoint import zoo
from ..distillation import distill
from ..distillation import feature_distillation as features
from ..distillation import response_distillation as responses
from ..distillation.stored_logits import store_logits
from ..distillation.teachers import LiveTeacher
from .keeping import kept, place

STUDENT, SEEDS = "lab_vit_student", (0, 1, 2)
TEMPERATURE, ATTENTION, STRUCTURE, MIMICKING = (
    "Distillation Temperature Variants", "Attention Feature Distillation", "Structured Feature Distillation",
    "Direct Feature Mimicking")
FUNCTION, SOFT = "Objective Function Design", "Empowering Soft Labels"


@dataclass(frozen=True)
class Row:
    """One way to train the student: the survey's leaf, what stands beside the labels, whose word it is, how it is heard.

    `labels` is the weight of the labels; None leaves them out (the objective has them in it). `stored` teachers ran
    before; `steps` are times those of the study.
    """

    leaf: str = "none"
    terms: Mapping[str, Any] = field(default_factory=dict)
    teacher: str | None = "CNN"
    labels: responses.Labels | None = responses.Labels()
    stored: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1

    @property
    def objectives(self) -> dict[str, Any]:
        """What `distill` adds up."""
        return ({} if self.labels is None else {"labels": self.labels}) | dict(self.terms)


@dataclass(frozen=True)
class Study:
    """Rows on one set: steps, settings of `training.fit`, and the teachers by label, each a function of no arguments."""

    name: str
    dataset: str
    steps: int
    settings: Mapping[str, Any]
    teachers: Mapping[str, Callable[[], nn.Module]]
    rows: Mapping[str, Row]


def soft(**changes: Any) -> dict[str, Any]:
    """The term of soft targets, by itself."""
    return {"soft targets": responses.SoftTargets(**changes)}


def _feature(leaf: str, teacher: str = "CNN", **terms: Any) -> Row:
    return Row(leaf, {name.replace("_", " "): term for name, term in terms.items()}, teacher, stored=False)


def _rows(steps: int) -> dict[str, Row]:
    """Every objective of the part, alone beside the labels."""
    return {
        "labels alone": Row(teacher=None),
        "label smoothing": Row(SOFT, teacher=None, labels=responses.Labels(smoothing=0.1)),
        "soft targets": Row(FUNCTION, soft(), stored=False),
        "soft targets, stored": Row(SOFT, soft()),
        "hard targets": Row(FUNCTION, {"hard targets": responses.HardTargets()}),
        "standardised": Row(TEMPERATURE, soft(temperature=2.0, standardized=True)),
        "annealed": Row(TEMPERATURE, soft(temperature=8.0, final_temperature=1.0, steps=steps)),
        "per sample": Row(TEMPERATURE, {"per sample": responses.PerSample()}),
        "distillation token": Row(FUNCTION, {"token": responses.DistillationToken()}, labels=None,
                                  arguments={"distilled": True}),
        "decoupled": Row(FUNCTION, {"decoupled": responses.Decoupled()}),
        "correlation": Row(FUNCTION, {"correlation": responses.Correlation()}),
        "attention maps": _feature(ATTENTION, attention_maps=features.AttentionTransfer()),
        "attention weights": _feature(ATTENTION, "ViT", attention_weights=features.AttentionWeights()),
        "similarity": _feature(STRUCTURE, similarity=features.Similarity()),
        "relational": _feature(STRUCTURE, relational=features.Relational()),
        "manifold": _feature(STRUCTURE, manifold=features.Manifold()),
        "hints": _feature(MIMICKING, hints=features.Hint()),
        "shallow mimic + deep generation": _feature(MIMICKING, "ViT", shallow=features.ShallowMimic(),
                                                    deep=features.DeepGeneration()),
        "lifted last layer": _feature(MIMICKING, lifted=features.LiftedLastLayer()),
    }


def _zoo(name: str) -> Callable[[], nn.Module]:
    return lambda: checkpoint.load(f"zoo:{name}")


class ShuffledClasses(nn.Module):
    """A teacher that knows the pictures and calls each class by the next one's name."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(inputs).roll(1, dims=1)


def _untrained() -> nn.Module:
    torch.manual_seed(0)
    return models.create_model("lab_cnn").eval()


@lru_cache(maxsize=1)
def _small() -> nn.Module:
    """A CNN of a few thousand parameters, trained for as many steps as the student: no better than it will be."""
    torch.manual_seed(0)
    model = models.create_model("lab_cnn", widths=(8, 16, 32), stem_stride=2)
    training.fit(model, data.load("cifar10"), steps=STEPS, progress=False, threads=1, **SETTINGS)
    return model.eval()


SETTINGS = {"batch_size": 128, "lr": 9e-3, "optimizer": "muon", "schedule": "linear", "warmup": 0.2,
            "augment": ("flip", "crop")}
CIFAR10_TEACHERS = {"CNN": _zoo("lab_cnn/cifar10"), "ViT": _zoo("lab_vit_teacher/cifar10")}
SHUFFLED = "a teacher with its classes shuffled"
LIMITS = {"small CNN": _small, **CIFAR10_TEACHERS, "an untrained teacher": _untrained,
          SHUFFLED: lambda: ShuffledClasses(_zoo("lab_cnn/cifar10")()).eval()}
STEPS = 200

STUDIES = {study.name: study for study in (
    Study("distillation_cifar10", "cifar10", STEPS, SETTINGS, CIFAR10_TEACHERS, _rows(STEPS)),
    Study("distillation_limits", "cifar10", STEPS, SETTINGS, LIMITS,
          {"labels alone": Row(teacher=None),
           **{f"soft targets, {name}": Row(SOFT, soft(), name) for name in LIMITS},
           "labels alone, long": Row(teacher=None, steps=3), "soft targets, long": Row(SOFT, soft(), steps=3)}),
)}


def study(name: str, labels: Sequence[str] | None = None, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Scores of every row (or of `labels`) for each seed, and of the teachers; what was run before is taken from the cache."""
    plan, rows = STUDIES[name], {}
    for label in labels or plan.rows:
        row = plan.rows[label]
        rows[label] = {"leaf": row.leaf, "teacher": row.teacher, "stored": row.stored and row.teacher is not None,
                       "objective": " + ".join(repr(term) for term in row.objectives.values()),
                       "runs": [_kept(plan, label, seed) for seed in seeds]}
    heard = {row["teacher"] for row in rows.values()} - {None}
    seconds = sum(run["seconds"] for row in rows.values() for run in row["runs"])
    return {"dataset": plan.dataset, "student": STUDENT, "steps": plan.steps, "batch_size": plan.settings["batch_size"],
            "settings": dict(plan.settings), "rows": rows, "seconds": round(seconds, 1),
            "teachers": {label: _described(make(), plan.dataset) for label, make in plan.teachers.items() if label in heard}}


def _described(teacher: nn.Module, dataset: str) -> dict[str, Any]:
    return {"model": type(teacher).__name__, "params": sum(value.numel() for value in teacher.parameters()),
            **_scored(teacher, data.load(dataset, "test"))}


def _scored(model: nn.Module, pictures: data.Pictures) -> dict[str, float]:
    score = training.evaluate(model, pictures)
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4)}


def _kept(plan: Study, label: str, seed: int) -> dict[str, Any]:
    """The run of one row and seed: from the cache, if the same row was run before with the same teacher, else made."""
    row = plan.rows[label]
    about = [plan.dataset, plan.steps, sorted(plan.settings.items()), repr(row), seed, _teacher_mark(plan, row)]
    return kept("distillation", about, lambda: _run(plan, row, seed), f"{plan.name}: {label}, seed {seed}")


def _teacher_mark(plan: Study, row: Row) -> str:
    name = {"CNN": "lab_cnn", "ViT": "lab_vit_teacher", SHUFFLED: "lab_cnn"}.get(row.teacher or "")
    return zoo.card(f"{name}/{plan.dataset}")["sha256"] if name else ""


def _run(plan: Study, row: Row, seed: int) -> dict[str, Any]:
    """Train and score one student; seconds of the processor are those of its steps, and apart those of storing logits: about
    0 where another row has stored them before."""
    train, test = (data.load(plan.dataset, split) for split in ("train", "test"))
    settings = {**plan.settings, "steps": plan.steps * row.steps, "seed": seed, "threads": torch.get_num_threads(),
                "progress": False}
    teacher = plan.teachers[row.teacher]() if row.teacher else None
    torch.manual_seed(seed)
    student = models.create_model(STUDENT, **row.arguments)
    start = time.process_time()
    if teacher is not None and row.stored:
        views = {name: settings[name] for name in ("steps", "batch_size", "seed", "augment", "progress")}
        said = hashlib.sha256(f"{LiveTeacher(teacher).identity} {views} {plan.dataset}".encode()).hexdigest()[:20]
        teacher = store_logits(teacher, train, place(f"logits-{said}.safetensors"), **views)
    asked = time.process_time()
    history = (training.fit(student, train, label_smoothing=row.labels.smoothing, **settings) if teacher is None
               else distill(student, teacher, train, row.objectives, **settings))
    ended = time.process_time()
    return {"seed": seed, "seconds": round(history.seconds, 1), "cpu_seconds": round(ended - asked, 1),
            "teacher_cpu_seconds": round(asked - start, 1), **_scored(student, test)}
