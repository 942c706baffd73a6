"""The settings of a run, and what `fit` refuses before the first step."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, require_choice, require_logits, require_multiple, require_range
from .augment import AUGMENTATIONS
from .optimizers import OPTIMIZERS, SCHEDULES
from .probing import ATTENTIONS, PRECISIONS


@dataclass(frozen=True)
class Settings:
    """What decides the weights that a run ends with, beside model and data. `objective` is its
    name.
    """

    steps: int
    lr: float
    batch_size: int
    weight_decay: float
    label_smoothing: float
    warmup: float
    seed: int
    checks: int
    optimizer: str
    schedule: str
    clip: float | None
    augment: tuple[str, ...]
    objective: str
    precision: str
    attention: str

    def require(self) -> None:
        """Raise LabError on numbers out of range and unknown names."""
        for name, low, high in (("lr", 1e-12, 10), ("weight_decay", 0, float("inf")), ("label_smoothing", 0, 1),
                                ("warmup", 0, 1), ("seed", 0, 2**63), ("checks", 1, float("inf"))):
            require_range("fit", name, getattr(self, name), low, high)
        if self.clip is not None:
            require_range("fit", "clip", self.clip, 1e-12)
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS),
                              ("attention", ATTENTIONS)):
            require_choice("fit", name, getattr(self, name), allowed)
        for name in self.augment:
            require_choice("fit", "augment", name, AUGMENTATIONS)


def require_length(epochs: float, steps: int | None, batch_size: int, count: int,
                   processes: int) -> None:
    """Raise LabError unless epochs, or steps, of `count` pictures in batches of `batch_size` make a
    run.
    """
    require_range("fit", "epochs", epochs, 0.0)
    require_range("fit", "steps", 1 if steps is None else steps, 1)
    require_range("fit", "batch_size", batch_size, 1)
    if epochs == 0 or count == 0:
        raise LabError(f"fit: {epochs} epochs of {count} pictures are no training; give epochs > 0 and some pictures")
    if batch_size > count:
        raise LabError(f"fit: batch_size={batch_size} is more than the {count} pictures of the set; "
                       f"give batch_size <= {count}")
    require_multiple("fit", "batch_size", batch_size, processes, f"{processes} processes take an equal share")


def require_pictures(data: Pictures) -> None:
    """Raise LabError unless these are bytes of at least two classes, with moments that normalise
    them.
    """
    if data.pixels.dtype != torch.uint8 or data.pixels.ndim != 4:
        raise LabError(f"fit: pixels are {data.pixels.dtype} of shape {tuple(data.pixels.shape)}; give bytes (uint8) "
                       "of shape (pictures, 1 or 3, height, width), and normalise by mean and std")
    if 0 in data.pixels.shape or data.pixels.shape[1] not in (1, 3):
        raise LabError(f"fit: pixels have shape {tuple(data.pixels.shape)}; give (pictures, 1 or 3, height, width)")
    if len(data.labels) != len(data.pixels) or data.labels.dtype != torch.long:
        raise LabError(f"fit: {len(data.pixels)} pictures have {len(data.labels)} labels of {data.labels.dtype}; "
                       "give one torch.long label for each")
    if data.labels.min() == data.labels.max():
        raise LabError(f"fit: all {len(data)} pictures are of class {data.labels[0].item()}; there is nothing to tell "
                       "apart. Give pictures of at least two classes")


def require_normalised(inputs: Tensor, data: Pictures) -> None:
    """Raise LabError if `inputs` hold NaN or infinity or are far from mean 0 and standard deviation
    1.
    """
    mean, std = inputs.mean().item(), inputs.std().item()
    if not torch.isfinite(inputs).all() or abs(mean) > 5 or std > 20:
        raise LabError(f"fit: the inputs have mean {mean:.3g} and standard deviation {std:.3g}, where about 0 and 1 "
                       f"are expected; the set's mean is {data.mean.tolist()} and its std {data.std.tolist()}: "
                       "give both as fractions of 255, std > 0")


@torch.no_grad()
def require_model(model: nn.Module, inputs: Tensor, labels: Tensor, share: int = 2,
                  plain: bool = True) -> None:
    """Raise LabError if `model` refuses `inputs` (2 pictures), or `labels` (N,) name classes that
    it does not know.

    share: pictures of a batch in each process; one alone is tried in train mode, which batch norm
    may refuse plain: whether the objective takes the model's answer as logits
    """
    if not any(value.requires_grad for value in model.parameters()):
        raise LabError(f"fit: no parameter of {type(model).__name__} is to be trained; "
                       "model.requires_grad_(True) trains all")
    model.eval()
    try:
        logits = model(inputs)
    except LabError:
        raise
    except Exception as error:
        raise LabError(f"fit: {type(model).__name__} takes no inputs of shape {tuple(inputs.shape)}: {error}. Load the "
                       "pictures with the image_size of the model, or build the model for theirs") from error
    if plain or (isinstance(logits, Tensor) and logits.ndim == 2 and getattr(model, "num_classes", None) != 0):
        require_logits("fit", model, logits, labels)
    if share == 1:
        _require_one_picture(model, inputs[:1])


def _require_one_picture(model: nn.Module, picture: Tensor) -> None:
    """Raise LabError if `model` cannot train on one picture at a time; batch norm of a vector needs
    two.
    """
    trial = copy.deepcopy(model).train()         # batch norm keeps what it sees
    try:
        trial(picture)
    except Exception as error:
        raise LabError(f"fit: {type(model).__name__} cannot train on one picture at a time in each process ({error}); "
                       "give a batch_size of at least two pictures for each process") from error
