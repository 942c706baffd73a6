"""The check of `layers`, the blocks that a method changes, which every method here takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import LabError


def listed(values: Any) -> Any:
    """A sequence (a list, tuple or range) as a list of its own, which a plan can hold."""
    return list(values) if isinstance(values, Sequence) else values


def require_layers(caller: str, layers: Any, last: int, note: str = "") -> list[int]:
    """`layers`. Raises LabError unless they are blocks 0 to `last`, each given once."""
    whole = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not whole or len(set(layers)) < len(layers) or not set(range(last + 1)).issuperset(layers):
        raise LabError(f"{caller}: layers={str(layers)[:80]}; give 0-based blocks 0 to {last}, "
                       f"rising, each once, for example layers=[{(last + 1) // 2}]{note}")
    return layers
