"""Models inside torch's wrappers: `torch.compile`, `DataParallel`, `DistributedDataParallel`.

What is run, trained, counted, explained or saved is the model inside. Transforms would lose the
wrapper and refuse it. A timing is of the model as it was given.
"""

from __future__ import annotations

from torch import nn

from ..errors import LabError

_INSIDE = {"OptimizedModule": "_orig_mod", "DataParallel": "module",
           "DistributedDataParallel": "module"}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch's wrappers, however many, or `model` itself."""
    while (name := _INSIDE.get(type(model).__name__)) is not None:
        model = getattr(model, name)
    return model


def require_unwrapped(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, if `model` is one of torch's wrappers."""
    name = _INSIDE.get(type(model).__name__)
    how = f"wrapped in {type(model).__name__}; give the model inside, wrapped.{name}"
    if name == "_orig_mod":
        how = "compiled; give the model before torch.compile, compiled._orig_mod"
    if name is not None:
        raise LabError(f"{caller}: this model is {how}")


def plain_name(name: str) -> str:
    """The name of a weight without the wrappers' parts: `module._orig_mod.head` is `head`."""
    parts = [part for part in name.split(".") if part not in _MARKS]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


_MARKS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
