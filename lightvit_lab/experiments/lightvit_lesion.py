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
from .kit import Study, scored

NAME, MODEL, DATASETS, TEST = "lightvit_lesion", "lab_lightvit", ("cifar10", "fashion_mnist",
                                                                  "shapes"), 4000


def nothing(keys_and_values: Tensor) -> Tensor:
    """The values become 0: whatever an image token looks at, it is handed nothing."""
    keys, values = keys_and_values.chunk(2, dim=-1)
    return torch.cat([keys, torch.zeros_like(values)], dim=-1)


def mean_of_all(keys_and_values: Tensor) -> Tensor:
    """Every picture of a batch gets the mean over them: nothing about itself."""
    return keys_and_values.mean(dim=0, keepdim=True).expand_as(keys_and_values)


def of_another(keys_and_values: Tensor) -> Tensor:
    """Every picture gets what the picture before it in the batch would get."""
    return keys_and_values.roll(1, dims=0)


LESIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "whole": None, "hands back nothing": nothing, "the mean of 256 pictures": mean_of_all,
    "what belongs to another picture": of_another}


@contextmanager
def lesion(model: nn.Module, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Change what every block's global tokens hand back, the output of `kv_global`."""
    layers = [layer for name, layer in model.named_modules() if name.endswith("kv_global")]
    handles = [layer.register_forward_hook(lambda _layer, _inputs, output: change(output))
               for layer in layers if change]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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


STUDIES = (Study(NAME, result),)
