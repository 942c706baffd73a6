"""What explainers that call a model share: targets, the model's state, passes of bounded size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import LabError, require_images, require_logits
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped

# at most so much in one pass, so that memory stays small: 64 pictures of 32 px, 5 of 224
PIXELS_AT_ONCE, MOST_AT_ONCE = 2**18, 64
Target = Tensor | Sequence[int] | int | None


@contextmanager
def explaining(caller: str, model: nn.Module, inputs: Tensor, target: Target,
               slopes: bool = True) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """Yield the model without wrappers, a copy of `inputs` as it takes them, and classes (batch,).

    `inputs` are (batch, channels, height, width); the class is the predicted one where `target` is
    None. Meanwhile the model is in eval mode on the device in use, gradients are on or off as
    `slopes` says, also inside `torch.no_grad()`, autocast is off, and captum's warnings are
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
        yield model, pictures, classes


def targets(caller: str, model: nn.Module, inputs: Tensor,
            target: Target) -> tuple[nn.Module, Tensor, Tensor]:
    """The model without wrappers, `inputs` as it takes them, where it is, and classes (batch,)."""
    with explaining(caller, model, inputs, target, slopes=False) as (model, _, classes):
        pass
    inputs = as_input(model, inputs)
    return model, inputs, classes.to(inputs.device)


def require_explainer(caller: str, name: str, explainer: Any) -> None:
    """Raise LabError unless `explainer` can be called."""
    if not callable(explainer):
        raise LabError(f"{caller}: {name} is {type(explainer).__name__}; give a function (model, "
                       "inputs, target) -> (batch, rows, columns), as explain.relevance_map")


def require_target(caller: str, target: Target, logits: Tensor) -> Tensor:
    """`target` as one class a picture, (batch,), the predicted one if None; LabError on others."""
    if target is None:
        return logits.argmax(dim=1)
    classes, (batch, count) = torch.as_tensor(target, device=logits.device), logits.shape
    if classes.is_floating_point() or classes.shape not in ((), (batch,)):
        raise LabError(f"{caller}: target={target!r}; give a class number, one for each of the "
                       f"{batch} pictures, or None for the class that the model predicts")
    wrong = classes.flatten()[((classes < 0) | (classes >= count)).flatten()]
    if len(wrong):
        raise LabError(f"{caller}: target {wrong[0].item()} is out of range; the model has "
                       f"{count} classes, 0 to {count - 1}")
    # a clone: a tensor made inside inference_mode can take no part in gradients
    return classes.long().expand(batch).clone()


def reentrant_error(caller: str, model: nn.Module) -> LabError:
    """For a model whose own checkpointing, in torch's older form, lets no gradient pass."""
    return LabError(f"{caller}: {type(model).__name__} recomputes a part of its forward by "
                    "torch.utils.checkpoint with use_reentrant=True, which lets no gradient pass "
                    "to what is inside; call it with use_reentrant=False")


@contextmanager
def refusing_reentrant(caller: str, model: nn.Module) -> Iterator[None]:
    """Raise `reentrant_error` in place of what torch says of such checkpointing."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, LabError) or "use_reentrant" not in str(error):
            raise
        raise reentrant_error(caller, model) from error


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """(batch, classes), in passes of bounded size."""
    return torch.cat([require_logits("explain", model, model(part))
                      for part in inputs.split(pass_size(inputs))])


def pass_size(inputs: Tensor) -> int:
    """How many pictures of this size go through a model in one pass."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // inputs.shape[-2:].numel()))


def progress_bar(total: int, title: str, unit: str, progress: bool) -> tqdm:
    """A bar; none while a book is built, where it would only be noise on the page."""
    hidden = not progress or "LIGHTVIT_BOOK" in os.environ
    return tqdm(total=total, desc=title, unit=unit, leave=False, disable=hidden)
