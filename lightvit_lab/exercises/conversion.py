"""Values are compared and types are remarked: an answer in the types of the expected one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from math import copysign, inf, prod
from typing import Any

import numpy
import torch
from torch import Tensor


def item(value: Any) -> Any:
    """The number inside a tensor or array of one element; anything else as it is.

    A fraction is a float, a whole number that no float can hold is infinite.
    """
    if type(value) is int and abs(value) > 1e300:
        return copysign(inf, value > 0 or -1)
    if isinstance(value, (Fraction, Decimal)):
        return float(value)
    device = getattr(getattr(value, "device", None), "type", "")
    single = hasattr(value, "item") and prod(getattr(value, "shape", (0,))) == 1
    return value.item() if single and device != "meta" else value


def alike(given: Any, expected: Any) -> Any:
    """`given` in the types of `expected`: arrays and lists of numbers as tensors, and so on.

    What cannot be taken for the same kind of value stays as it is.
    """
    if isinstance(expected, Tensor):
        return _as_tensor(given, expected)
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        return {key: alike(part, expected[key]) if key in expected else part
                for key, part in given.items()}
    if isinstance(expected, (tuple, list)):
        parts = list(given) if _has_rows(given) else given
        same = isinstance(parts, (tuple, list)) and len(parts) == len(expected)
        kind = tuple if isinstance(parts, tuple) else list
        return kind(map(alike, parts, expected)) if same else parts
    return given


def remark(given: Any, expected: Any, name: str = "your result") -> str:
    """In which type an answer of the right values differs, as a sentence; empty where in none."""
    if isinstance(expected, Mapping):
        pairs = [(given[key], expected[key], f"{name}[{key!r}]") for key in expected]
    elif isinstance(expected, (tuple, list)):
        if _has_rows(given):
            return _sentence(name, _kind(given), f"a {type(expected).__name__}")
        pairs = [(*pair, f"{name}[{index}]") for index, pair in enumerate(zip(given, expected))]
    else:
        return _own_remark(given, expected, name)
    return next(filter(None, (remark(*pair) for pair in pairs)), "")


def _as_tensor(given: Any, expected: Tensor) -> Any:
    """An array, or a list where no single number is expected, as a tensor of the same shape."""
    listed = isinstance(given, (list, tuple)) and expected.dim() > 0
    if isinstance(given, Tensor) or not (listed or isinstance(given, numpy.ndarray)):
        return given
    with suppress(TypeError, ValueError, RuntimeError):
        given = torch.as_tensor(numpy.asarray(_rows(given)) if listed else given.copy())
    return given


def _rows(given: Any) -> Any:
    """Lists of tensors as lists of arrays, which NumPy joins."""
    if isinstance(given, (list, tuple)):
        return [_rows(part) for part in given]
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else given


def _has_rows(given: Any) -> bool:
    """Whether it is a tensor or an array whose rows can stand for the parts of a list."""
    return isinstance(given, (Tensor, numpy.ndarray)) and len(given.shape) > 0


def _own_remark(given: Any, expected: Any, name: str) -> str:
    if not isinstance(expected, Tensor):
        shape = tuple(getattr(given, "shape", ()))
        return _sentence(name, f"of shape {shape}", "one number without axes") if shape else ""
    if type(given) in (bool, int, float, complex):
        return ""                       # one number is a number
    if not isinstance(given, Tensor):
        return _sentence(name, _kind(given), f"a tensor, {expected.dtype}")
    if given.shape != expected.shape:
        return _sentence(name, f"of shape {tuple(given.shape)}", "one number without axes")
    if given.dtype != expected.dtype:
        return _sentence(name, str(given.dtype), str(expected.dtype))
    return ""


def _sentence(name: str, given: str, expected: str) -> str:
    return f" The values are right; mind the type: {name} is {given}, expected was {expected}."


def _kind(value: Any) -> str:
    """A type in words."""
    if isinstance(value, numpy.ndarray):
        return f"a NumPy array of {value.dtype}"
    if isinstance(value, numpy.generic):
        return f"a NumPy number, {value.dtype}"
    return f"a {type(value).__name__.lower()}"
