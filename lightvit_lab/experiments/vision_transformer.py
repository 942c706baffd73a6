"""What `chapters/foundations/vision_transformer` stores: ViTs beside a CNN, digits, and faults."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .. import data, models, training
from . import faults
from .comparison import candidates, comparison
from .kit import SEEDS, Row, Run, Study, averages

EPOCHS = 2.5
# Equal parameter counts; the same pictures, in the same order, with the same optimizer and number
# of steps, and no augmentation; at most 4 minutes a run on one core.
CANDIDATES = candidates("vision_transformer_fashion_mnist")
# The page's own two models: handwriting is easier than shapes for plain patches.
SMALL = {"name": "lab_vit", "patch_size": 8, "dim": 64, "depth": 4, "num_heads": 4}
ON_DIGITS = {embedding: Row(calls=((models.create_model, {**SMALL, "embedding": embedding}),),
                            seeds=SEEDS) for embedding in ("patch", "conv_stem")}
DIGITS_TRAINING = {"steps": 250, "batch_size": 64, "lr": 8e-3, "optimizer": "muon"}
PATIENTS = {letter: Row(calls=((faults.build, {"fault": fault, "patch_size": 8,
                                               "embedding": "patch"}),), seeds=SEEDS)
            for letter, fault in {"healthy": "healthy", **faults.PATIENTS}.items()}
FAULTS_TRAINING = {"steps": 480, "batch_size": 32, "lr": 2e-3}


def _trained(row: Row, seed: int, settings: dict[str, Any]) -> tuple[nn.Module, Run]:
    """A model of the row, trained on the digits, and its losses, averaged."""
    (create, how), = row.calls
    model = create(**how)
    history = training.fit(model, data.load("digits"), seed=seed, precision="float32",
                           threads=torch.get_num_threads(), **settings)
    return model, {"seed": seed, "loss": averages(history.loss)}


def on_digits(row: Row, _stage: str, seed: int) -> Run:
    """Accuracy and loss curve of one model."""
    model, run = _trained(row, seed, DIGITS_TRAINING)
    score = training.evaluate(model, data.load("digits", "test"))
    return {**run, "test": round(score.accuracy, 4)}


def symptoms(row: Row, _stage: str, seed: int) -> Run:
    """Loss curve and symptoms of a healthy model or a broken one."""
    model, run = _trained(row, seed, FAULTS_TRAINING)
    values = faults.symptoms(model, data.load("digits", "test"))
    return {**run, "symptoms": {name: round(value, 4) for name, value in values.items()}}


STUDIES = (
    comparison("vision_transformer_fashion_mnist", "fashion_mnist", CANDIDATES,
               lambda splits, rows: {"epochs": EPOCHS, "train_pictures": len(splits["train"]),
                                     "image_size": 32, "models": rows},
               {"epochs": EPOCHS, "lr": 2e-3, "batch_size": 128, "checks": 6}),
    Study("vision_transformer_digits",
          lambda study: {"steps": DIGITS_TRAINING["steps"], "embeddings": study.by_label(),
                         "train_pictures": len(data.load("digits"))}, ON_DIGITS, on_digits),
    Study("vision_transformer_faults",
          lambda study: {"dataset": "digits", "steps": FAULTS_TRAINING["steps"],
                         "patients": study.by_label()}, PATIENTS, symptoms),
)
