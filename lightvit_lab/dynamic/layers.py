"""Checks of `layers`, the blocks that a method changes, and of values given once or for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import LabError


def listed(values: Any) -> Any:
    """A sequence (a list, tuple or range) as a list of its own, which a plan can hold."""
    several = isinstance(values, Sequence) and not isinstance(values, str)
    return list(values) if several else values


def per_layer(caller: str, name: str, value: Any, count: int) -> list[Any]:
    """`value`, one for all `count` layers or one for each, as a list of `count`.

    Raises LabError on a sequence of another length.
    """
    values = listed(value)
    values = values if isinstance(values, list) else [value] * count
    if len(values) != count:
        raise LabError(f"{caller}: {name} has {len(values)} entries for {count} layers; give one "
                       "for each layer, or one for all")
    return values


def require_layers(caller: str, layers: Any, last: int, note: str = "") -> list[int]:
    """`layers`. Raises LabError unless they are blocks 0 to `last`, each given once."""
    whole = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not whole or len(set(layers)) < len(layers) or not set(range(last + 1)).issuperset(layers):
        raise LabError(f"{caller}: layers={str(layers)[:80]}; give 0-based blocks 0 to {last}, "
                       f"rising, each once, for example layers=[{(last + 1) // 2}]{note}")
    return layers
