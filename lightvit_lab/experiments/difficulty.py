"""How hard are the shapes? From what needs no idea of a picture to a CNN and a ViT, on each level.

`book/data_sets` tables what these studies store. A set that teaches must defeat the first two and
yield to the others, at a pace that one can follow.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import data
from .comparison import Splits, candidates, comparison
from .kit import Study

SETTINGS = {"batch_size": 64, "augment": ("flip",), "checks": 4, "threads": 1}


def _study(level: str, seeds: tuple[int, ...]) -> Study:
    return comparison(f"shapes_{level}", "shapes", candidates("shapes", seeds), _result, SETTINGS,
                      level=level)


def _result(splits: Splits, rows: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of a linear model, of simple statistics, and of a CNN and a ViT on the way."""
    train, test = splits["train"], splits["test"]
    return {"train_pictures": len(train), "batch_size": SETTINGS["batch_size"],
            "linear": round(linear_accuracy(train, test), 4),
            "statistics": round(statistics_accuracy(train, test), 4), **rows}


def linear_accuracy(train: data.Pictures, test: data.Pictures) -> float:
    """A linear model on the pixels, by least squares with the best of three ridges.

    The ridge is chosen on the test pictures: this is an upper bound on what such a model can do.
    """
    flat, labels = train.inputs.flatten(1), F.one_hot(train.labels).float()
    gram, moment = flat.T @ flat, flat.T @ (labels - labels.mean(0))
    accuracies = []
    for ridge in (1e2, 1e4, 1e5):
        weights = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), moment)
        classes = (test.inputs.flatten(1) @ weights).argmax(1)
        accuracies.append((classes == test.labels).float().mean().item())
    return max(accuracies)


def statistics_accuracy(train: data.Pictures, test: data.Pictures) -> float:
    """A two-layer network on twelve numbers a picture: each channel's mean, spread and gradient."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    layers = MLPClassifier((64, 64), early_stopping=True, random_state=0)
    network = make_pipeline(StandardScaler(), layers)
    network.fit(_statistics(train.images).numpy(), train.labels.numpy())
    return float(network.score(_statistics(test.images).numpy(), test.labels.numpy()))


def _statistics(images: Tensor) -> Tensor:
    across, down = images.diff(dim=3).abs(), images.diff(dim=2).abs()
    means = [part.mean((2, 3)) for part in (images, across, down)]
    return torch.cat([*means, images.std((2, 3))], dim=1)


STUDIES = (_study("easy", (0,)), _study("standard", (0, 1)), _study("hard", (0, 1)))
