"""What a call left behind: tensors on the device, parameters that no training can use any more, changed modes and flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def tensors(value: Any, name: str = "", depth: int = 6) -> Iterator[tuple[str, Tensor]]:
    """All tensors in `value`, with the way to each: in modules, containers and the fields of objects of the library."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from ((f"{name}.{part}", tensor) for part, tensor in [*value.named_parameters(), *value.named_buffers()])
    elif depth and isinstance(value, (list, tuple, set)):
        for position, item in enumerate(value):
            yield from tensors(item, f"{name}[{position}]", depth - 1)
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{name}[{key!r}]", depth - 1)
    elif depth and (dataclasses.is_dataclass(value) or type(value).__module__.startswith("lightvit_lab")):
        for key, item in getattr(value, "__dict__", {}).items():
            yield from tensors(item, f"{name}.{key}", depth - 1)


def faults(namespace: Mapping[str, Any]) -> list[str]:
    """One line for each name under which something lies on the device, or a parameter became an inference tensor."""
    found = []
    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        for place, tensor in tensors(value, name):
            if tensor.device.type not in ("cpu", "meta"):
                found.append(f"{place} is on {tensor.device}")
                break
            if isinstance(tensor, nn.Parameter) and tensor.is_inference():
                found.append(f"{place} became an inference tensor")
                break
    return found
