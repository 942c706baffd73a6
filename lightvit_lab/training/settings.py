"""The settings of a run, and what `fit` refuses before the first step."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import (LabError, require_choice, require_logits, require_multiple, require_range,
                      require_whole)
from .optimizers import OPTIMIZERS, SCHEDULES
from .probing import ATTENTIONS, PRECISIONS

NUMBERS = {"lr": (1e-12, 10), "weight_decay": (0, math.inf), "label_smoothing": (0, 1),
           "warmup": (0, 1), "seed": (0, 2**63), "checks": (1, math.inf)}
NAMES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS,
         "attention": ATTENTIONS}


def checked_settings(**settings: Any) -> SimpleNamespace:
    """What decides the weights of a run besides model and data, by the names of `fit`.

    `objective` is its name. Raises LabError on numbers out of range and unknown names.
    """
    for name, (low, high) in NUMBERS.items():
        require_range("fit", name, settings[name], low, high)
    if settings["clip"] is not None:
        require_range("fit", "clip", settings["clip"], 1e-12)
    for name, allowed in NAMES.items():
        require_choice("fit", name, settings[name], allowed)
    return SimpleNamespace(**settings)


def require_length(epochs: float, steps: int | None, batch_size: int, count: int,
                   processes: int) -> int:
    """The number of steps: `steps`, or those of `epochs` epochs of `count` pictures.

    Raises LabError unless there is one, and batches that the processes can share.
    """
    require_range("fit", "epochs", epochs, 0.0)
    if epochs == 0 or count == 0:
        raise LabError(f"fit: {epochs} epochs of {count} pictures are no training; give more")
    batch_size = require_multiple("fit", "batch_size", batch_size, processes,
                                  f"{processes} processes take an equal share")
    if batch_size > count:
        raise LabError(f"fit: batch_size={batch_size} is more than the {count} pictures of the "
                       f"set; give batch_size <= {count}")
    whole = math.ceil(epochs * count / batch_size)
    return whole if steps is None else require_whole("fit", "steps", steps, 1)


def require_pictures(data: Pictures) -> None:
    """Raise LabError unless these are bytes of at least two classes, with a label each."""
    pixels, labels = data.pixels, data.labels
    bytes_of_images = pixels.dtype == torch.uint8 and pixels.ndim == 4 and pixels.shape[1] in (1, 3)
    if not bytes_of_images or 0 in pixels.shape:
        raise LabError(f"fit: pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; give bytes "
                       "(uint8) of shape (pictures, 1 or 3, height, width)")
    if len(labels) != len(pixels) or labels.dtype != torch.long:
        raise LabError(f"fit: {len(pixels)} pictures have {len(labels)} labels of {labels.dtype}; "
                       "give one torch.long label for each")
    if labels.min() == labels.max():
        raise LabError(f"fit: all {len(data)} pictures are of class {labels[0].item()}; give "
                       "pictures of at least two classes")


def require_normalised(inputs: Tensor, data: Pictures) -> None:
    """Raise LabError unless `inputs` are finite, roughly of mean 0 and standard deviation 1."""
    mean, std = inputs.mean().item(), inputs.std().item()
    if not torch.isfinite(inputs).all() or abs(mean) > 5 or std > 20:
        raise LabError(f"fit: the inputs have mean {mean:.3g} and standard deviation {std:.3g}, not"
                       f" about 0 and 1; the set's mean is {data.mean.tolist()}, its std "
                       f"{data.std.tolist()}: give both as fractions of 255, std > 0")


@torch.no_grad()
def require_model(model: nn.Module, inputs: Tensor, labels: Tensor, share: int = 2,
                  plain: bool = True) -> None:
    """Raise LabError if `model` cannot train on `inputs` (2 pictures) with `labels` (N,).

    share: pictures of a batch in each process; one alone is tried in train mode, which batch norm
    may refuse
    plain: whether the objective takes the model's output as logits
    """
    name = type(model).__name__
    if not any(value.requires_grad for value in model.parameters()):
        raise LabError(f"fit: no parameter of {name} is to be trained; model.requires_grad_(True) "
                       "trains all")
    model.eval()
    try:
        logits = model(inputs)
    except LabError:
        raise
    except Exception as error:
        raise LabError(f"fit: {name} takes no inputs of shape {tuple(inputs.shape)}: {error}. Load "
                       "pictures of the model's image_size, or build it for theirs") from error
    are_logits = isinstance(logits, Tensor) and logits.ndim == 2
    if plain or (are_logits and getattr(model, "num_classes", None) != 0):
        require_logits("fit", model, logits, labels)
    if share == 1:
        try:
            copy.deepcopy(model).train()(inputs[:1])      # a copy: batch norm would learn from it
        except Exception as error:
            raise LabError(f"fit: {name} cannot train on one picture at a time in each process "
                           f"({error}); give a batch_size of at least two for each") from error
