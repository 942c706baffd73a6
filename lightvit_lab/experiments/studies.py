"""The runs behind the stored results: `python -m lightvit_lab.experiments.studies [name ...]`, or `make reference` for all."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .. import data, models, training
from ..errors import require_choice
from ..runtime import device
from . import (compression, difficulty, distillation, dynamic, early_exit, faults, gpu_speed, light_models,
               lightvit_parts, reading_attention, results)
from .comparison import compare

SEEDS = (0, 1, 2)


def vision_transformer_fashion_mnist(epochs: float = 2.5) -> dict[str, Any]:
    """Two ViTs and a CNN of equal parameter count on Fashion-MNIST, three seeds each; at most 4 minutes a run on one core.

    The same pictures, in the same order, with the same optimizer and number of steps for all; no augmentation.
    """
    candidates = {
        "ViT, plain patches": ("lab_vit_student", {"patch_size": 8, "embedding": "patch"}, {}),
        "ViT, convolutional stem": ("lab_vit_student", {"patch_size": 8, "embedding": "conv_stem"}, {}),
        "CNN": ("lab_cnn", {"widths": (26, 52, 104), "blocks": 1, "stem_stride": 2}, {}),
    }
    splits = {split: data.load("fashion_mnist", split) for split in data.SPLITS}
    rows = compare(candidates, splits, SEEDS, epochs=epochs, lr=2e-3, batch_size=128, checks=6,
                   threads=torch.get_num_threads())
    return {"epochs": epochs, "train_pictures": len(splits["train"]), "image_size": 32, "models": rows}


def vision_transformer_digits(steps: int = 250) -> dict[str, Any]:
    """The page's own two models on the digits, three seeds each: handwriting is easier than shapes for plain patches."""
    train, test = data.load("digits"), data.load("digits", "test")
    rows: dict[str, dict[str, Any]] = {embedding: {"runs": []} for embedding in ("patch", "conv_stem")}
    for seed in SEEDS:
        for embedding, row in rows.items():
            torch.manual_seed(seed)
            model = models.create_model("lab_vit", embedding=embedding, patch_size=8, dim=64, depth=4, num_heads=4)
            history = training.fit(model, train, steps=steps, batch_size=64, lr=8e-3, optimizer="muon", seed=seed,
                                   precision="float32", threads=torch.get_num_threads())
            score = training.evaluate(model, test)
            row["runs"].append({"seed": seed, "test": round(score.accuracy, 4), "loss": _means(history.loss)})
            print(f"{embedding}, seed {seed}: test {score}", flush=True)
    return {"steps": steps, "train_pictures": len(train), "embeddings": rows}


def vision_transformer_faults(steps: int = 480) -> dict[str, Any]:
    """A healthy small ViT and three broken ones on the digits, three seeds each: loss curves and symptoms, under letters."""
    train, test = data.load("digits"), data.load("digits", "test")
    rows: dict[str, dict[str, Any]] = {}
    for letter, fault in {"healthy": "healthy", **faults.PATIENTS}.items():
        rows[letter] = {"runs": []}
        for seed in SEEDS:
            torch.manual_seed(seed)
            model = faults.build(fault, patch_size=8, embedding="patch")
            history = training.fit(model, train, steps=steps, lr=2e-3, batch_size=32, seed=seed,
                                   precision="float32", threads=torch.get_num_threads())
            found = {name: round(value, 4) for name, value in faults.symptoms(model, test).items()}
            rows[letter]["runs"].append({"seed": seed, "loss": _means(history.loss), "symptoms": found})
            print(f"patient {letter}, seed {seed}: {found}", flush=True)
    return {"dataset": "digits", "steps": steps, "patients": rows}


def _means(values: list[float], count: int = 60) -> list[float]:
    """Cut `values` into `count` stretches of nearly equal length (fewer if there are not enough) and average each."""
    count = min(count, len(values))
    stretches = (values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count))
    return [round(sum(stretch) / len(stretch), 4) for stretch in stretches]


STUDIES: dict[str, Callable[[], dict[str, Any]]] = {
    gpu_speed.NAME: gpu_speed.gpu_speed,          # first: short, and the reason to look for a GPU
    **{name: partial(distillation.study, name) for name in distillation.STUDIES},
    **{name: partial(compression.study, name) for name in compression.STUDIES},
    **{name: partial(dynamic.study, name) for name in dynamic.STUDIES},
    "early_exit_cifar10": early_exit.study,
    "light_models": light_models.light_models,
    **{f"lightvit_parts_{dataset}": partial(lightvit_parts.lightvit_parts, dataset) for dataset in ("shapes", "fashion_mnist")},
    reading_attention.NAME: reading_attention.reading_attention,
    **{f"shapes_{level}": partial(difficulty.shapes_difficulty, level) for level in difficulty.SEEDS_OF},
    "vision_transformer_digits": vision_transformer_digits,
    "vision_transformer_fashion_mnist": vision_transformer_fashion_mnist,
    "vision_transformer_faults": vision_transformer_faults,
}


def _here() -> list[str]:
    """All studies, without the one for a GPU where there is none."""
    if device().type != "cpu":
        return list(STUDIES)
    print(f"{gpu_speed.NAME} is left out: there is no GPU here")
    return [name for name in STUDIES if name != gpu_speed.NAME]


def _seeds(name: str) -> list[int]:
    return [0] if name in ("light_models", gpu_speed.NAME) else list(difficulty.SEEDS_OF.get(name.removeprefix("shapes_"), SEEDS))


def main(arguments: list[str] | None = None) -> None:
    """Run the named studies, or all that this machine can run, and store what they return."""
    parser = argparse.ArgumentParser(description="Run the studies behind the stored results.")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(STUDIES)}")
    for name in parser.parse_args(arguments).names or _here():
        require_choice("studies", "name", name, STUDIES)
        start = time.perf_counter()
        found = STUDIES[name]()
        command = f"python -m lightvit_lab.experiments.studies {name}"
        seconds = found.pop("seconds", time.perf_counter() - start)      # of runs that were kept, what they took
        print(results.save(name, found, _seeds(name), command, seconds))


if __name__ == "__main__":
    main()
