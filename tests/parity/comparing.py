"""Whether what the library gives is what is expected."""

import math
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from .cases import is_stats

ATOL, RTOL = 1e-4, 2e-6  # as the fixtures ask; the second for sums and features far above 1
LEAST = 1e-7


@dataclass(frozen=True)
class Near:
    """A value whose own arithmetic is less exact: compared with `rtol` and `atol` instead."""

    value: Any
    rtol: float
    atol: float = 0.0


def difference(expected: Any, found: Any, atol: float = ATOL, most: float = 1.0) -> str:
    """"" if `found` is `expected`, else in which way it is not.

    Floating numbers may differ by `atol` times the largest of them, or times `most` where that is
    less. Whole numbers, names and shapes must be equal. Statistics are compared with those of the
    tensor found.
    """
    if isinstance(found, Near):
        return _far(_array(expected), _array(found.value), found.atol, found.rtol)
    if is_stats(expected):
        return _unlike_stats(expected, found, atol, most)
    if expected is None or found is None:
        return "" if expected is found else f"expected {expected}, found {found}"
    if (
        isinstance(expected, list)
        and expected
        and isinstance(expected[0], list)
        and isinstance(expected[0][0], str)
    ):
        return _unlike_rows(expected, found)
    expected, found = _array(expected), _array(found)
    return _far(expected, found, max(LEAST, atol * min(most, _largest(expected))), RTOL)


def stats_of(tensor: Any) -> dict[str, Any]:
    """The statistics that fixtures store of a tensor."""
    array = _array(tensor).astype(float)
    return {
        "shape": list(array.shape),
        "mean": array.mean(),
        "std": array.std(),
        "min": array.min(),
        "max": array.max(),
        "l2": numpy.linalg.norm(array),
        "first8": array.ravel()[:8],
        "last8": array.ravel()[-8:],
    }


def _unlike_stats(expected: dict[str, Any], found: Any, atol: float, most: float) -> str:
    ours = stats_of(found)
    if ours["shape"] != expected["shape"]:
        return f"shape {ours['shape']}, expected {expected['shape']}"
    scale = max(abs(expected.get("min", 1.0)), abs(expected.get("max", 1.0)))
    for name, value in expected.items():
        if name != "shape" and name not in ours:
            return f"{name} is no statistic that is known"
        allowed = max(LEAST, atol * min(most, scale))
        if name == "std" and abs(value - _of_a_sample(ours)) <= allowed:
            continue  # torch divides by one less than numpy, and fixtures were made by either
        if name != "shape" and (far := _far(_array(value), _array(ours[name]), allowed, RTOL)):
            return f"{name} {far}"
    return ""


def _of_a_sample(stats: dict[str, Any]) -> float:
    """The standard deviation with one less than the count below, as torch's `std` has it."""
    count = math.prod(stats["shape"])
    return stats["std"] * math.sqrt(count / max(count - 1, 1))


def _unlike_rows(expected: list[list[Any]], found: list[list[Any]]) -> str:
    """Names, shapes and types of weights, in any order."""
    wanted, ours = (
        {(row[0], tuple(row[1]), str(row[2]).removeprefix("torch.")) for row in rows}
        for rows in (expected, found)
    )
    apart = sorted(wanted ^ ours)
    return f"{len(apart)} rows differ, such as {apart[0]}" if apart else ""


def _far(expected: numpy.ndarray, found: numpy.ndarray, atol: float, rtol: float) -> str:
    if expected.shape != found.shape:
        return f"shape {list(found.shape)}, expected {list(expected.shape)}"
    if expected.dtype.kind in "iub":
        wrong = int((expected != found).sum())
        return f"{wrong} of {expected.size} whole numbers differ" if wrong else ""
    gap, allowed = numpy.abs(expected.astype(float) - found), atol + rtol * numpy.abs(expected)
    wrong = ~((gap <= allowed) | (expected == found))  # ~, so that NaN is wrong
    if not wrong.any():
        return ""
    most, least = gap[wrong].max(), allowed[wrong].min()
    return f"differs by {most:.3g} (allowed {least:.3g}) in {wrong.sum()} of {wrong.size}"


def _largest(array: numpy.ndarray) -> float:
    return float(numpy.abs(array).max()) if array.size and array.dtype.kind == "f" else 1.0


def _array(value: Any) -> numpy.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else numpy.asarray(value)
