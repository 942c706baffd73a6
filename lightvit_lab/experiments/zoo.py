"""What trains the zoo: `python -m lightvit_lab.experiments.zoo [name ...]`, or `make zoo` for all.

Rates and steps were chosen on validation pictures, none on test. `checkpoint.zoo` finds what lies
there.
"""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from .. import checkpoint, data, models, storage, training
from ..checkpoint.zoo import card, file, find
from ..distillation import distill
from ..distillation.feature_distillation import Hint
from ..distillation.response_distillation.objectives import Labels, SoftTargets
from ..errors import LabError, require_choice
from . import results
from .comparison import load_splits

SETTINGS = {"batch_size": 64, "optimizer": "muon", "schedule": "linear", "augment": ("flip",)}
PHOTOGRAPHS = {**SETTINGS, "batch_size": 128, "warmup": 0.2, "label_smoothing": 0.1,
               "augment": ("flip", "crop")}


@dataclass(frozen=True)
class Recipe:
    """How a model is made: arguments of `create_model`, and settings of `training.fit`.

    With a `teacher`, another model of the zoo, soft targets and hints stand beside the labels.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""


def _recipe(steps: int, lr: float, common: dict[str, Any] = PHOTOGRAPHS,
            **arguments: Any) -> Recipe:
    return Recipe(arguments, {**common, "steps": steps, "lr": lr})


RECIPES: dict[str, Recipe] = {
    "lab_cnn/shapes": _recipe(1600, 2e-2, SETTINGS, widths=[16, 32, 128]),
    "lab_cnn/fashion_mnist": _recipe(1500, 1.2e-2, widths=[24, 40, 48], pooled=True),
    "lab_cnn/cifar10": _recipe(8000, 1.2e-2, widths=[64, 128, 256], pooled=True),
    "lab_vit_teacher/shapes": _recipe(1200, 8e-3, SETTINGS),
    "lab_vit_teacher/fashion_mnist": _recipe(1000, 6e-3),
    "lab_vit_teacher/cifar10": _recipe(10000, 6e-3),
    "lab_vit_student/shapes": _recipe(3000, 1.2e-2, SETTINGS),
    "lab_vit_student/fashion_mnist": _recipe(1000, 9e-3),
    "lab_vit_student/cifar10": _recipe(3000, 9e-3),
    "lab_lightvit/shapes": _recipe(1600, 2.4e-2, SETTINGS),
    "lab_lightvit/fashion_mnist": _recipe(1000, 2e-2),
    "lab_lightvit/cifar10": _recipe(3000, 2e-2),
}


def train(name: str, seed: int = 0, **how: Any) -> dict[str, Any]:
    """Train one model by its recipe; keep it if it is better on validation than what lies there.

    Returns the card of the one that lies there then. `how` is for `training.fit`: threads,
    precision, attention, where they are not to be tried out.
    """
    require_choice("zoo", "name", name, RECIPES)
    recipe, (model_name, dataset) = RECIPES[name], name.split("/")
    splits = load_splits(dataset)
    torch.manual_seed(seed)
    model = models.create_model(model_name, **recipe.arguments).to(
        memory_format=torch.channels_last)
    cpu = time.process_time()
    history = _fit(model, splits["train"], recipe, seed=seed, **how)
    cpu = time.process_time() - cpu
    validation, test = (training.evaluate(model, splits[split]) for split in ("val", "test"))
    about = {"name": name, "model": model_name, "dataset": dataset, **asdict(recipe), "seed": seed,
             "teacher": _teacher(recipe), "validation": asdict(validation), "test": asdict(test),
             "params": sum(value.numel() for value in model.parameters()),
             "choices": history.choices, "seconds": round(history.seconds, 1),
             "cpu_seconds": round(cpu, 1), **results.here(),
             "command": f"python -m lightvit_lab.experiments.zoo {name}"}
    there = _there(name)
    if there and there["validation"]["accuracy"] >= validation.accuracy:
        print(f"{name}: {validation} on validation; the one that lies there is as good, and stays")
        return there
    return _store(name, model, about)


def _teacher(recipe: Recipe) -> str:
    return f"{recipe.teacher} {card(recipe.teacher)['sha256']}" if recipe.teacher else ""


def _there(name: str) -> dict[str, Any] | None:
    """The card of the model that lies there; None where card or weights are missing or damaged."""
    with suppress(LabError):
        find(name)
        return card(name)
    return None


def _fit(model: torch.nn.Module, pictures: data.Pictures, recipe: Recipe,
         **how: Any) -> training.History:
    """Train by the recipe: on labels, or with a teacher beside them."""
    if not recipe.teacher:
        return training.fit(model, pictures, **how, **recipe.settings)
    settings = dict(recipe.settings)
    objectives = {"labels": Labels(smoothing=settings.pop("label_smoothing", 0.0)),
                  "soft targets": SoftTargets(), "hints": Hint()}
    teacher = checkpoint.load(f"zoo:{recipe.teacher}")
    return distill(model, teacher, pictures, objectives, **how, **settings)


def _store(name: str, model: torch.nn.Module, about: dict[str, Any]) -> dict[str, Any]:
    """Weights, then card: whenever a kill comes, `find` has the pair before or the one after."""
    path, there = file(name, "safetensors"), _there(name)
    storage.settle("zoo", path, there and there["sha256"])
    about["sha256"] = checkpoint.save(model, storage.next_of(path), precision="float16")
    storage.write_json("zoo", file(name, "json"), about)
    storage.settle("zoo", path, about["sha256"])
    return about


def main(arguments: list[str] | None = None) -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(description="Train the models of the zoo.")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, help="instead of as many as pay")
    parser.add_argument("--precision", default="auto", help="instead of what pays")
    parser.add_argument("--attention", default="auto", help="instead of what pays")
    given = vars(parser.parse_args(arguments))
    wanted = given.pop("names") or sorted(RECIPES, key=lambda name: bool(RECIPES[name].teacher))
    for name in wanted:
        about = train(name, **given)
        score = training.Score(**about["test"])
        print(f"{name}: test {score}; {about['seconds']:.0f} s on {about['device']}", flush=True)


if __name__ == "__main__":
    main()
