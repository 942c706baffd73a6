"""How hard are the shapes? From what needs no idea of a picture to a CNN and a ViT, on each level.

`book/data_sets` tables what this study stores. A set that teaches must defeat the first two and yield to the others, at
a pace that can be watched.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import data
from .comparison import Candidate, compare

TRAINED: dict[str, Candidate] = {
    "CNN": ("lab_cnn", {"widths": (16, 32, 64), "stem_stride": 2}, {"steps": 1250, "lr": 4e-3}),
    "ViT": ("lab_vit", {}, {"steps": 640, "lr": 8e-3, "optimizer": "muon", "schedule": "linear"}),
}
SEEDS_OF = {"easy": (0,), "standard": (0, 1), "hard": (0, 1)}
CHECKS = 4


def shapes_difficulty(level: str) -> dict[str, Any]:
    """Accuracy on one level of a linear model, of simple statistics, and of a CNN and a ViT on the way."""
    splits = {split: data.load("shapes", split, level=level) for split in data.SPLITS}
    found: dict[str, Any] = {"train_pictures": len(splits["train"]), "batch_size": 64,
                             "linear": round(linear_accuracy(splits["train"], splits["test"]), 4),
                             "statistics": round(statistics_accuracy(splits["train"], splits["test"]), 4)}
    print(f"{level}: {found}", flush=True)
    trained = compare(TRAINED, splits, SEEDS_OF[level], batch_size=64, augment=("flip",), checks=CHECKS, threads=1)
    return found | trained


def linear_accuracy(train: data.Pictures, test: data.Pictures) -> float:
    """A linear model on the pixels, by least squares with the best of three ridges (chosen on the test pictures: this
    is an upper bound on what such a model can do)."""
    flat, labels = train.inputs.flatten(1), F.one_hot(train.labels).float()
    gram, moment = flat.T @ flat, flat.T @ (labels - labels.mean(0))
    found = []
    for ridge in (1e2, 1e4, 1e5):
        weights = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), moment)
        found.append(((test.inputs.flatten(1) @ weights).argmax(1) == test.labels).float().mean().item())
    return max(found)


def statistics_accuracy(train: data.Pictures, test: data.Pictures) -> float:
    """A two-layer network on twelve numbers a picture: mean, spread and mean gradient of each channel."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = make_pipeline(StandardScaler(), MLPClassifier((64, 64), early_stopping=True, random_state=0))
    network.fit(_statistics(train.images).numpy(), train.labels.numpy())
    return float(network.score(_statistics(test.images).numpy(), test.labels.numpy()))


def _statistics(images: Tensor) -> Tensor:
    across, down = images.diff(dim=3).abs(), images.diff(dim=2).abs()
    return torch.cat([*(part.mean((2, 3)) for part in (images, across, down)), images.std((2, 3))], dim=1)
