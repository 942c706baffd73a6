"""What trains the zoo: `python -m lightvit_lab.experiments.zoo [name ...]`, or `make zoo` for all.

`zoo.json` has what makes each model: arguments of `create_model`, and settings of `training.fit`.
Rates and steps were chosen on validation pictures, none on test. `checkpoint.zoo` finds the models.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch

from .. import checkpoint, models, storage, training
from ..checkpoint.zoo import card, file, find
from ..errors import LabError, require_choice
from . import results
from .comparison import load_splits
from .kit import cpu_timed, read_table

RECIPES = read_table("zoo")


def train(name: str, seed: int = 0, **how: Any) -> dict[str, Any]:
    """Train one model by its recipe; store it if it is better on validation than the stored one.

    Returns the card of the one that is stored then. `how` is for `training.fit`: threads,
    precision, attention, where they are not to be tried out.
    """
    require_choice("zoo", "name", name, RECIPES)
    recipe, (model_name, dataset) = RECIPES[name], name.split("/")
    splits = load_splits(dataset)
    torch.manual_seed(seed)
    model = models.create_model(model_name, **recipe["arguments"])
    model = model.to(memory_format=torch.channels_last)
    history, cpu_seconds = cpu_timed(lambda: training.fit(
        model, splits["train"], seed=seed, **how, **recipe["settings"]))
    validation, test = (training.evaluate(model, splits[split]) for split in ("val", "test"))
    stored = _stored(name)
    if stored and stored["validation"]["accuracy"] >= validation.accuracy:
        print(f"{name}: {validation} on validation; the stored one is as good, and stays")
        return stored
    return _store(name, model, {
        "name": name, "model": model_name, "dataset": dataset, **recipe, "teacher": "",
        "seed": seed, "params": sum(value.numel() for value in model.parameters()),
        "validation": asdict(validation), "test": asdict(test), "choices": history.choices,
        "seconds": round(history.seconds, 1), "cpu_seconds": cpu_seconds, **results.provenance(),
        "command": f"python -m lightvit_lab.experiments.zoo {name}"})


def _stored(name: str) -> dict[str, Any] | None:
    """The card of the stored model; None where card or weights are missing or damaged."""
    with suppress(LabError):
        find(name)
        return card(name)
    return None


def _store(name: str, model: torch.nn.Module, about: dict[str, Any]) -> dict[str, Any]:
    """Weights, then card: whenever a kill comes, `find` has the pair before or the one after."""
    path, stored = file(name, "safetensors"), _stored(name)
    storage.settle("zoo", path, stored and stored["sha256"])
    about["sha256"] = checkpoint.save(model, storage.next_of(path), precision="float16")
    storage.write_json("zoo", file(name, "json"), about)
    storage.settle("zoo", path, about["sha256"])
    return about


def main(arguments: list[str] | None = None) -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(description="Train the models of the zoo.")
    parser.add_argument("names", nargs="*", help=f"which (default: all): {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, help="how many (default: what is fastest here)")
    for name in ("--precision", "--attention"):
        parser.add_argument(name, default="auto", help="default: what is fastest here")
    how = vars(parser.parse_args(arguments))
    for name in how.pop("names") or RECIPES:
        about = train(name, **how)
        score = training.Score(**about["test"])
        print(f"{name}: test {score}; {about['seconds']:.0f} s on {about['device']}", flush=True)


if __name__ == "__main__":
    main()
