"""What explainers that call a model share: its state while it is asked, passes of bounded size, a
bar for who waits.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import LabError, require_images, require_logits
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from .relevance import Target, refusing_reentrant, require_target

# in one pass, so that memory stays small: 64 pictures of 32 px, 5 of 224
PIXELS_AT_ONCE, MOST_AT_ONCE = 2**18, 64


class Asked(NamedTuple):
    """A model, unwrapped; pictures as it takes them, a copy; and a class for each, (batch,)."""

    model: nn.Module
    pictures: Tensor
    classes: Tensor


@contextmanager
def explaining(caller: str, model: nn.Module, inputs: Tensor, target: Target,
               slopes: bool = True) -> Iterator[Asked]:
    """What is asked about `inputs` (batch, channels, height, width), on the device in use; the
    class is the predicted one where `target` is None.

    Within, the model is in eval mode, gradients are on or off as `slopes` says, also inside
    `torch.no_grad()`, no autocast turns products into half precision, and captum's warnings are
    silenced. Raises LabError on what are no pictures, on targets out of range, and where gradients
    cannot pass what the model does.
    """
    require_images(caller, inputs)
    if len(inputs) == 0:
        raise LabError(f"{caller}: 0 pictures have no map; give at least one")
    model = unwrapped(model)
    with (on_device(model, grad=slopes, precision="float32") as place, warnings.catch_warnings(),
          refusing_reentrant(caller, model)):
        # on hooks and grads that we meant
        warnings.filterwarnings("ignore", module=r"captum\.|lightvit_lab\.explain")
        pictures = as_input(model, inputs.detach().clone()).to(place)
        with torch.no_grad():
            classes = require_target(caller, target, logits_of(model, pictures))
        yield Asked(model, pictures, classes)


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """(batch, classes), in passes of bounded size."""
    return torch.cat([require_logits("explain", model, model(part)) for part in inputs.split(pass_size(inputs))])


def pass_size(inputs: Tensor) -> int:
    """How many pictures of this size go through a model in one pass."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // inputs.shape[-2:].numel()))


def parts(inputs: Tensor, classes: Tensor, size: int, title: str,
          progress: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """`size` pictures at a time with their classes, under a bar that counts pictures."""
    with tqdm(total=len(inputs), desc=title, unit=" pictures", leave=False, disable=not shown(progress)) as bar:
        for part, of in zip(inputs.split(size), classes.split(size)):
            yield part, of
            bar.update(len(part))


def shown(progress: bool) -> bool:
    """Whether to show a bar: none while a book is built, where it would only be noise on the page."""
    return progress and "LIGHTVIT_BOOK" not in os.environ
