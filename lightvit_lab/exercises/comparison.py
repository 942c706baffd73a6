"""Compare an answer with the expected one, and say in words where they differ.

Values count: their type does not, as long as it holds them (see `conversion`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .conversion import alike, item
from .typed import Digits

SMALL = 16   # outputs of up to so many numbers are shown whole


@dataclass(frozen=True)
class Difference:
    """The first way in which two values differ, in words.

    `discreet`: the text does not give the expected number away.
    """

    text: str
    discreet: bool = False


def difference(given: Any, expected: Any, tolerance: float | Digits,
               name: str = "the output") -> Difference | None:
    """How `given` differs from `expected`; None where they agree within `tolerance`.

    The tolerance is both relative and absolute, or the digits that count. Knows tensors (any device
    and dtype), arrays, numbers, bools, strings, None, and tuples, lists and dicts of them. Whole
    numbers are compared exactly. NaN agrees with NaN.
    """
    return _difference(alike(given, expected), expected, tolerance, name)


def _difference(given: Any, expected: Any, tolerance: float | Digits,
                name: str) -> Difference | None:
    if isinstance(expected, Tensor):
        return _tensor_difference(given, expected, tolerance, name)
    if isinstance(expected, Mapping):
        return _mapping_difference(given, expected, tolerance, name)
    if isinstance(expected, (tuple, list)):
        return _sequence_difference(given, expected, tolerance, name)
    return _scalar_difference(item(given), item(expected), tolerance, name)


def both_values(given: Any, expected: Any) -> str:
    """Expected over given, two aligned lines, where both are small; else an empty string."""
    texts = [_small(expected), _small(alike(given, expected))]
    return "" if None in texts else f"expected  {texts[0]}\ngiven     {texts[1]}"


def describe(value: Any) -> str:
    """A value in a few words: a tensor by its shape, a module by its class, else its `repr`."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _tensor_difference(given: Any, expected: Tensor, tolerance: float | Digits,
                       name: str) -> Difference | None:
    if expected.dim() == 0 and _is_single(given):
        return _scalar_difference(item(given), expected.item(), tolerance, name)
    if not isinstance(given, Tensor):
        return Difference(f"{name} is {_kind(given)}; expected a tensor of shape "
                          f"{tuple(expected.shape)}", True)
    if given.device.type == "meta":
        return Difference(f"{name} is on the device meta, where tensors hold no numbers; make it "
                          "on the cpu", True)
    if given.shape != expected.shape:
        text = f"{name} has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
        return Difference(text, True)
    return _value_difference(given, expected, tolerance, name)


def _is_single(given: Any) -> bool:
    """Whether it holds one number or bool, whatever its type."""
    return isinstance(item(given), (int, float, complex))


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def plain(tensor: Tensor) -> Tensor:
    """The tensor on the cpu, without history, wide enough to be compared."""
    tensor = tensor.detach().cpu()
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return tensor.double() if tensor.is_floating_point() else tensor


def _value_difference(given: Tensor, expected: Tensor, tolerance: float | Digits,
                      name: str) -> Difference | None:
    types = "the shape {shape} and the dtype are right"
    if given.dtype != expected.dtype:
        types = f"the shape {{shape}} is right, the dtype is {given.dtype}"
    types, inexact = types.format(shape=tuple(given.shape)), _is_inexact(expected)
    given, expected = (plain(part).to(torch.complex128) for part in (given, expected))
    close = given == expected
    if inexact:
        relative = tolerance.relative if isinstance(tolerance, Digits) else tolerance
        close = torch.isclose(given, expected, relative, relative, equal_nan=True)
    if close.all():
        return None
    strange = given.isnan() & ~expected.isnan()
    if strange.any():
        return Difference(f"{name} has NaN (not a number) in {int(strange.sum())} of "
                          f"{given.numel()} places, the first {_place(strange)}; 0 / 0, inf - inf "
                          "and the root or logarithm of a negative number make NaN", True)
    gap = (given - expected).abs().nan_to_num(math.inf, math.inf).where(~close, 0.0)
    one, other, distance = (_digits(_real(part.flatten()[gap.argmax()].item()))
                            for part in (given, expected, gap))
    count = f"{int((~close).sum())} of {given.numel()} values of {name}"
    beyond = _beyond(tolerance) if inexact else ""
    return Difference(f"{types}, but {count} differ{beyond}, most {_place(gap == gap.max())}: "
                      f"expected {other}, given {one}, a difference of {distance}")


def _real(number: complex | float) -> complex | float:
    """A complex number that is real, as a real one."""
    return number.real if isinstance(number, complex) and number.imag == 0 else number


def _beyond(tolerance: float | Digits) -> str:
    if not tolerance or isinstance(tolerance, Digits):
        return ""
    return f" by more than the tolerance, {tolerance:g}"


def _place(mask: Tensor) -> str:
    """Where the mask is first true, as an index."""
    return f"at {mask.nonzero()[0].tolist()}" if mask.dim() else "as a single number"


def _mapping_difference(given: Any, expected: Mapping, tolerance: float | Digits,
                        name: str) -> Difference | None:
    if not isinstance(given, Mapping):
        return Difference(f"{name} is {_kind(given)}; expected a dict", True)
    if set(given) != set(expected):
        keys = [sorted(map(str, part)) for part in (given, expected)]
        return Difference(f"{name} has the keys {keys[0]}, expected {keys[1]}", True)
    parts = (_difference(given[key], expected[key], tolerance, f"{name}[{key!r}]")
             for key in expected)
    return next((part for part in parts if part), None)


def _sequence_difference(given: Any, expected: tuple | list, tolerance: float | Digits,
                         name: str) -> Difference | None:
    if not isinstance(given, (tuple, list)):
        return Difference(f"{name} is {_kind(given)}; expected a {type(expected).__name__} of "
                          f"{len(expected)}", True)
    if len(given) != len(expected):
        return Difference(f"{name} has {len(given)} parts, expected {len(expected)}", True)
    parts = (_difference(given[i], expected[i], tolerance, f"{name}[{i}]")
             for i in range(len(expected)))
    return next((part for part in parts if part), None)


def _scalar_difference(given: Any, expected: Any, tolerance: float | Digits,
                       name: str) -> Difference | None:
    number, given = _is_number(expected), _real(given)
    if not (_is_number(given) if number else isinstance(given, type(expected))):
        kind = "a number" if number else "None" if expected is None else _kind(expected)
        return Difference(f"{name} is {_kind(given)}; expected {kind}", True)
    if number and _numbers_agree(given, expected, tolerance):
        return None
    if not number and _folded(given) == _folded(expected):
        return None
    if number and math.isnan(given):
        return Difference(f"{name} is NaN (not a number); 0 / 0 and inf - inf make NaN", True)
    if isinstance(expected, int) and isinstance(given, float):     # off by one, shown in full
        return Difference(f"{name} differs: expected {expected}, given {given:.15g}")
    beyond = _beyond(tolerance) if isinstance(expected, float) else ""
    return Difference(f"{name} differs{beyond}: "
                      f"expected {_digits(expected)}, given {_digits(given)}")


def _folded(value: Any) -> Any:
    """Words without capitals, one space between them."""
    words = value.casefold().replace("_", " ").replace("-", " ") if isinstance(value, str) else ""
    return " ".join(words.split()) if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers_agree(given: float, expected: float, tolerance: float | Digits) -> bool:
    if isinstance(tolerance, Digits):
        return tolerance.agree(given, expected)
    if isinstance(expected, int) and tolerance < 1e-3:
        # whole numbers are counts: nearly right is wrong, but for the noise of a computed float
        return given == expected or abs(given - expected) <= 1e-9 + 1e-14 * abs(expected)
    same = math.isnan(given) and math.isnan(expected)
    return same or math.isclose(given, expected, rel_tol=tolerance, abs_tol=tolerance)


def _kind(value: Any) -> str:
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"


def _digits(value: Any) -> str:
    """A number with 4 significant digits; whole numbers and anything else in full."""
    return f"{value:.4g}" if isinstance(value, (float, complex)) else repr(value)


def _small(value: Any) -> str | None:
    """A value as text; None where it is no tensor or list of at most SMALL numbers."""
    if isinstance(value, Tensor):
        small = value.numel() <= SMALL and value.device.type != "meta"
        return _nested(value.detach().cpu().tolist()) if small else None
    text = _nested(value)
    return text if text is not None and len(text) <= 200 else None


def _nested(value: Any) -> str | None:
    """Lists, tuples and numbers with 4 significant digits; None where there is anything else."""
    if isinstance(value, (list, tuple)):
        parts = [_small(part) if isinstance(part, Tensor) else _nested(part) for part in value]
        left, right = "[]" if isinstance(value, list) else "()"
        return None if None in parts else f"{left}{', '.join(parts)}{right}"
    return _digits(value) if isinstance(value, (int, float, complex, str)) else None
