"""The zoo: teachers, students and LightViT, trained by the recipes below; `make zoo` trains all of them anew.

A model lies in `book/zoo` as float16 safetensors, beside a card: recipe, seed, accuracy, device, seconds, sha256. Later
pages compress, merge and distil what lies there. Rates and steps were chosen on validation pictures, none on test.
"""

from __future__ import annotations

import argparse
import shlex
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from .. import data, models, runtime, storage, training
from ..distillation import distill
from ..distillation.feature_distillation import Hint
from ..distillation.response_distillation import Labels, SoftTargets
from ..errors import LabError, require_choice
from .files import load, save

CARD = {"name": str, "model": str, "dataset": str, "sha256": str, "validation": dict, "test": dict}
SETTINGS = {"batch_size": 64, "optimizer": "muon", "schedule": "linear", "augment": ("flip",)}
PHOTOGRAPHS = {**SETTINGS, "batch_size": 128, "warmup": 0.2, "label_smoothing": 0.1, "augment": ("flip", "crop")}


@dataclass(frozen=True)
class Recipe:
    """How a model of the zoo is made: arguments of `create_model`, and what is its own in the call of `training.fit`.

    With a `teacher`, another model of the zoo, soft targets and hints stand beside the labels: `distillation.distill`.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""


RECIPES: dict[str, Recipe] = {
    "lab_cnn/shapes": Recipe({"widths": [16, 32, 128]}, {**SETTINGS, "steps": 1600, "lr": 2e-2}),
    "lab_cnn/fashion_mnist": Recipe({"widths": [24, 40, 48], "pooled": True},
                                    {**PHOTOGRAPHS, "steps": 1500, "lr": 1.2e-2}),
    "lab_cnn/cifar10": Recipe({"widths": [64, 128, 256], "pooled": True}, {**PHOTOGRAPHS, "steps": 8000, "lr": 1.2e-2}),
    "lab_vit_teacher/shapes": Recipe({}, {**SETTINGS, "steps": 1200, "lr": 8e-3}),
    "lab_vit_teacher/fashion_mnist": Recipe({}, {**PHOTOGRAPHS, "steps": 1000, "lr": 6e-3}),
    "lab_vit_teacher/cifar10": Recipe({}, {**PHOTOGRAPHS, "steps": 10000, "lr": 6e-3}),
    "lab_vit_student/shapes": Recipe({}, {**SETTINGS, "steps": 3000, "lr": 1.2e-2}),
    "lab_vit_student/fashion_mnist": Recipe({}, {**PHOTOGRAPHS, "steps": 1000, "lr": 9e-3}),
    "lab_vit_student/cifar10": Recipe({}, {**PHOTOGRAPHS, "steps": 3000, "lr": 9e-3}),
    "lab_lightvit/shapes": Recipe({}, {**SETTINGS, "steps": 1600, "lr": 2.4e-2}),
    "lab_lightvit/fashion_mnist": Recipe({}, {**PHOTOGRAPHS, "steps": 1000, "lr": 2e-2}),
    "lab_lightvit/cifar10": Recipe({}, {**PHOTOGRAPHS, "steps": 3000, "lr": 2e-2}),
}


def folder() -> Path:
    """Where the zoo lies: `book/zoo` of a checkout, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "book" / "zoo"
    return checkout if checkout.is_dir() else package / "stored_zoo"


def names() -> tuple[str, ...]:
    """The models that lie in the zoo, as "MODEL/SET"."""
    there = {path.stem.replace("-", "/") for path in folder().glob("*.json")}
    return tuple(name for name in RECIPES if name in there)


def card(name: str) -> dict[str, Any]:
    """The card of one model: model, arguments, set, settings, seed, scores, parameters, device, date, seconds, sha256.

    Raises LabError on unknown names and damaged cards.
    """
    require_choice("zoo", "name", name, names())
    path, mend = _path(name, "json"), _mend(name)
    about = storage.read_json("zoo", path, mend)
    storage.require_fields(f"zoo: {path}", about, CARD, mend)
    for part in ("validation", "test"):
        score = {"accuracy": (int, float)}
        storage.require_fields(f"zoo: {part} of {path}", about[part], score, mend)
    return about


def find(name: str) -> Path:
    """The file of "zoo:MODEL/SET", compared with its card. Raises LabError on unknown names and on other files."""
    about = card(name.removeprefix("zoo:"))
    path = _path(name.removeprefix("zoo:"), "safetensors")
    found = storage.holding(path, about["sha256"])
    if found is None:
        raise LabError(f"checkpoint.load: {path} is missing, damaged, or of another run than its "
                       f"card; {_mend(about['name'])}")
    return found


def _mend(name: str) -> str:
    """How to get weights and card of a model back: a command that works from wherever it is typed."""
    where, both = shlex.quote(str(folder())), " ".join(_path(name, ending).name for ending in ("json", "safetensors"))
    fetch = f"git -C {where} checkout -- {both}" if (folder().parents[1] / ".git").exists() else (
        "install lightvit-lab anew")
    return f"fetch both anew ({fetch}), or train it: python -m lightvit_lab.checkpoint.zoo {name}"


def train(name: str, seed: int = 0, **how: Any) -> dict[str, Any]:
    """Train one model by its recipe and keep it if it is better on validation than what lies there; returns its card.

    `how` is for `training.fit`: threads, precision, attention, where they are not to be tried out.
    """
    require_choice("zoo", "name", name, RECIPES)
    recipe, (model_name, dataset) = RECIPES[name], name.split("/")
    splits = {split: data.load(dataset, split) for split in data.SPLITS}
    torch.manual_seed(seed)
    model = models.create_model(model_name, **recipe.arguments).to(memory_format=torch.channels_last)
    cpu = time.process_time()
    history = _fit(model, splits["train"], recipe, seed=seed, **how)
    cpu = time.process_time() - cpu
    validation, test = (training.evaluate(model, splits[split]) for split in ("val", "test"))
    about = {"name": name, "model": model_name, "dataset": dataset, **asdict(recipe), "seed": seed,
             "teacher": f"{recipe.teacher} {card(recipe.teacher)['sha256']}" if recipe.teacher else "",
             "params": sum(value.numel() for value in model.parameters()), "validation": asdict(validation),
             "test": asdict(test), "device": runtime.device_name(), "choices": history.choices,
             "seconds": round(history.seconds, 1), "cpu_seconds": round(cpu, 1),
             "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "versions": runtime.versions(),
             "commit": runtime.commit(), "command": f"python -m lightvit_lab.checkpoint.zoo {name}"}
    there = _there(name)
    if there and there["validation"]["accuracy"] >= validation.accuracy:
        print(f"{name}: {validation} on validation; the one that lies there is as good, and stays")
        return there
    return _store(name, model, about)


def _there(name: str) -> dict[str, Any] | None:
    """The card of the model that lies there; None where card or weights are missing or damaged."""
    with suppress(LabError):
        find(name)
        return card(name)
    return None


def _fit(model: torch.nn.Module, pictures: data.Pictures, recipe: Recipe, **how: Any) -> training.History:
    """Train by the recipe: on labels, or with a teacher beside them."""
    if not recipe.teacher:
        return training.fit(model, pictures, **how, **recipe.settings)
    settings = dict(recipe.settings)
    objectives = {"labels": Labels(smoothing=settings.pop("label_smoothing", 0.0)), "soft targets": SoftTargets(),
                  "hints": Hint()}
    return distill(model, load(f"zoo:{recipe.teacher}"), pictures, objectives, **how, **settings)


def _store(name: str, model: torch.nn.Module, about: dict[str, Any]) -> dict[str, Any]:
    """Weights, then card: whenever a kill comes, `find` has the pair before or the one after."""
    path, there = _path(name, "safetensors"), _there(name)
    storage.settle("zoo", path, there and there["sha256"])
    about["sha256"] = save(model, storage.next_of(path), precision="float16")
    storage.write_json("zoo", _path(name, "json"), about)
    storage.settle("zoo", path, about["sha256"])
    return about


def _path(name: str, ending: str) -> Path:
    return folder() / f"{name.replace('/', '-')}.{ending}"


def main(arguments: list[str] | None = None) -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(description="Train the models of the zoo.")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, help="instead of as many as pay")
    parser.add_argument("--precision", default="auto", help="instead of what pays")
    parser.add_argument("--attention", default="auto", help="instead of what pays")
    given = parser.parse_args(arguments)
    for name in given.names or sorted(RECIPES, key=lambda name: bool(RECIPES[name].teacher)):
        about = train(name, threads=given.threads, precision=given.precision, attention=given.attention)
        score = training.Score(**about["test"])
        print(f"{name}: test {score}; {about['seconds']:.0f} s on {about['device']}", flush=True)


if __name__ == "__main__":
    main()
