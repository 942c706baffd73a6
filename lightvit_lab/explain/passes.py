"""What explainers that call a model share: its state while it is asked, passes of bounded size, a bar for who waits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import LabError, require_images
from ..profiling.splitting import evaluating
from .maps import Target
from .relevance import require_target

PIXELS_AT_ONCE, MOST_AT_ONCE = 2**18, 64     # in one pass, so that memory stays small: 64 pictures of 32 px, 5 of 224


@contextmanager
def explaining(caller: str, model: nn.Module, inputs: Tensor, target: Target, slopes: bool = True,
               ) -> Iterator[tuple[Tensor, Tensor]]:
    """A copy of `inputs` (batch, channels, height, width) and one class a picture (batch,), the predicted one for None.

    Within, the model is in eval mode, gradients are on or off as `slopes` says, also inside `torch.no_grad()`, and
    captum's warnings are silenced. Raises LabError on what are no pictures and on targets out of range.
    """
    require_images(caller, inputs)
    if len(inputs) == 0:
        raise LabError(f"{caller}: 0 pictures have no map; give at least one")
    with torch.inference_mode(False), evaluating(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\.|lightvit_lab\.explain")   # on hooks and grads that we meant
        inputs = inputs.detach().clone()
        with torch.no_grad():
            classes = require_target(caller, target, logits_of(model, inputs))
        with torch.set_grad_enabled(slopes):
            yield inputs, classes


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """(batch, classes), in passes of bounded size."""
    return torch.cat([model(part) for part in inputs.split(pass_size(inputs))])


def pass_size(inputs: Tensor) -> int:
    """How many pictures of this size go through a model in one pass."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // inputs.shape[-2:].numel()))


def parts(inputs: Tensor, classes: Tensor, size: int, title: str, progress: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """`size` pictures at a time with their classes, under a bar that counts pictures."""
    with tqdm(total=len(inputs), desc=title, unit=" pictures", leave=False, disable=not shown(progress)) as bar:
        for part, of in zip(inputs.split(size), classes.split(size)):
            yield part, of
            bar.update(len(part))


def shown(progress: bool) -> bool:
    """Whether to show a bar: none while a book is built, where it would only be noise on the page."""
    return progress and "LIGHTVIT_BOOK" not in os.environ
