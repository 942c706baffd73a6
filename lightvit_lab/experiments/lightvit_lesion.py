"""What a trained LightViT loses when its global tokens hand nothing back, or the wrong thing.

`chapters/components/lightvit` shows what this study stores. The zoo's models are not trained
further: a lesion says what a model relies on, not what one trained without the part would reach
(`lightvit_parts` says that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, training
from ..checkpoint import zoo
from ..runtime.hooks import Hook, hooked
from .kit import Study, scored

MODEL, DATASETS, TEST = "lab_lightvit", ("cifar10", "fashion_mnist", "shapes"), 4000
# What becomes of the keys and values, (B, T, 2 dim), that image tokens look at.
LESIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "whole": None,
    "hands back nothing": lambda both: _keys_alone(*both.chunk(2, dim=-1)),
    "the mean of 256 pictures": lambda both: both.mean(dim=0, keepdim=True).expand_as(both),
    "what belongs to another picture": lambda both: both.roll(1, dims=0)}


def _keys_alone(keys: Tensor, values: Tensor) -> Tensor:
    return torch.cat([keys, torch.zeros_like(values)], dim=-1)


@contextmanager
def lesion(model: nn.Module, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Change what every block's global tokens hand back, the output of `kv_global`."""
    layers = [layer for name, layer in model.named_modules() if name.endswith("kv_global")]
    with hooked([Hook(layer, "output", lambda _layer, _inputs, _more, output: change(output))
                 for layer in layers if change]):
        yield


def result(_study: Study) -> dict[str, Any]:
    """Accuracy of each zoo model on the first TEST pictures, whole and with each lesion."""
    rows = {}
    for dataset in DATASETS:
        name = f"{MODEL}/{dataset}"
        model, pictures = checkpoint.load(f"zoo:{name}"), data.load(dataset, "test", count=TEST)
        rows[dataset] = {"sha256": zoo.card(name)["sha256"]}
        for label, change in LESIONS.items():
            with lesion(model, change):
                rows[dataset][label] = scored(training.evaluate(model, pictures))
            print(dataset, label, rows[dataset][label], flush=True)
    return {"model": MODEL, "pictures": TEST, "rows": rows}


STUDIES = (Study("lightvit_lesion", result),)
