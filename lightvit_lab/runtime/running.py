"""The one rule by which the library runs a model: `with on_device(model)`.

A model must be run on the device in use, in the right mode, with gradients on or off, and be left
as it was. Every public function does so through `on_device`, so a page can go on with its model and
its tensors where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError
from . import device


@contextmanager
def on_device(*models: nn.Module, train: bool | None = False, grad: bool = False,
              precision: str | None = None, threads: int | None = None,
              place: torch.device | None = None) -> Iterator[torch.device]:
    """Run `models` on `runtime.device()`, or `place`; yields the device.

    Models in float64 run on a CPU where that device has no float64.

    train: mode of every part meanwhile; False is eval mode, None leaves the modes as they are
    grad: whether gradients are recorded, whatever is set outside, `inference_mode` included
    precision: "bfloat16" or "float32" for autocast; None leaves autocast as it is
    threads: how many threads torch may use on a CPU; None leaves them

    Outside of training, gradient checkpointing (timm's `grad_checkpointing`) is switched off: hooks
    then see one forward. At the end, also after an exception, every weight is back on its device
    and every module in its mode, and gradients, autocast and threads are as before. Raises
    LabError, before anything is moved, for a model whose weights lie on several devices or hold no
    values (`meta`), and for `grad=True` on weights made inside `torch.inference_mode`, which can
    have no gradient.
    """
    place = device() if place is None else torch.device(place)
    if any(float_dtype(model) == torch.float64 for model in models):
        place = float64_place(place)
    homes = [home_of(model) for model in models]
    for model in models if grad else ():
        if any(tensor.is_inference() for tensor in model.parameters()):
            raise LabError(f"{type(model).__name__}: its weights were made inside "
                           "torch.inference_mode and can have no gradient; make it outside")
    with ExitStack() as stack:
        # else moved weights could never learn again
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(grad))
        for model, home in zip(models, homes):
            if home is not None:
                stack.callback(model.to, home)
            model.to(place)
            stack.enter_context(in_mode(model, train))
            for part in [] if train else model.modules():
                if getattr(part, "grad_checkpointing", None) is True:
                    stack.callback(setattr, part, "grad_checkpointing", True)
                    part.grad_checkpointing = False
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        if threads:
            torch.set_num_threads(threads)
        if precision is not None:
            stack.enter_context(cast(precision, place))
        yield place


@contextmanager
def in_mode(model: nn.Module, train: bool | None = False) -> Iterator[nn.Module]:
    """The model in train or eval mode (None: as it is); every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model if train is None else model.train(train)
    finally:
        for module, training in modes:
            module.training = training


def as_input(model: nn.Module, values: Tensor, place: torch.device | None = None) -> Tensor:
    """`values` on the device of `model`'s weights and, if both are floating point, in its type.

    A model without weights takes them on `place`, or where they are.
    """
    place = next((tensor.device for tensor in _tensors(model)), place or values.device)
    dtype = float_dtype(model, values.dtype) if values.is_floating_point() else values.dtype
    return values.to(place, dtype)


def to_device(value: Any, place: torch.device) -> Any:
    """`value` with all its tensors on `place`, through lists, tuples, dicts and dataclasses."""
    return map_tensors(value, lambda tensor: tensor.to(place))


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with each tensor changed, through lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(part, change) for part in value)
    if isinstance(value, dict):
        return {key: map_tensors(part, change) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **map_tensors(parts, change))
    return value


def float_dtype(model: nn.Module, otherwise: torch.dtype = torch.float32) -> torch.dtype:
    """The type of the first floating-point weight, which inputs should have, or `otherwise`."""
    dtypes = (tensor.dtype for tensor in _tensors(model) if tensor.is_floating_point())
    return next(dtypes, otherwise)


def home_of(model: nn.Module) -> torch.device | None:
    """The device of the model's weights, None if it has none.

    Raises LabError if they lie on several devices, or on `meta`, where they have no values.
    """
    homes = {tensor.device for tensor in _tensors(model)}
    if len(homes) > 1:
        devices = ", ".join(sorted(map(str, homes)))
        raise LabError(f"{type(model).__name__}: its weights lie on {devices}; put it on one "
                       'device, for example model.to("cpu")')
    home = next(iter(homes), None)
    if home is not None and home.type == "meta":
        raise LabError(f"{type(model).__name__}: its weights lie on meta, where they have no "
                       'values; give it some: model.to_empty(device="cpu")')
    return home


def cast(precision: str, place: torch.device) -> AbstractContextManager:
    """Autocast to "bfloat16", or no autocast ("float32"); the weights keep their type."""
    if precision == "bfloat16":
        return torch.autocast(place.type, torch.bfloat16)
    return torch.autocast(place.type, enabled=False) if _autocasts(place.type) else nullcontext()


def native_bfloat16(place: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 itself; older ones emulate it, more slowly than float32."""
    return place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def synchronize(place: torch.device | None = None) -> None:
    """Wait until `place` (the device in use) has finished its work; a CPU always has.

    Raises LabError for a device that cannot be waited for, whose times would be those of launches.
    """
    place = device() if place is None else place
    if place.type == "cpu":
        return
    wait = getattr(getattr(torch, place.type, None), "synchronize", None)
    if wait is None:
        raise LabError(f"LIGHTVIT_DEVICE={place}: torch.{place.type} has no synchronize(), so work "
                       "there cannot be timed; set LIGHTVIT_DEVICE=cpu")
    wait()


def float64_place(place: torch.device) -> torch.device:
    """Where float64 is computed for work on `place`: the CPU where it has none (Apple's mps)."""
    return torch.device("cpu") if place.type in WITHOUT_FLOAT64 else place


WITHOUT_FLOAT64 = {"mps"}


def double(values: Tensor) -> Tensor:
    """`values` in float64, on the CPU if their device knows no float64."""
    return values.to(float64_place(values.device)).double()


def _autocasts(kind: str) -> bool:
    try:
        return torch.is_autocast_enabled(kind)
    except RuntimeError:      # a device that knows no autocast
        return False


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())
