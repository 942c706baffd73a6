"""Numbers that a reader types: how many digits count, and in which ways a share may be written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from .conversion import item

UNITS = ("", "share", "percent")
_NUMBER = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*(?P<percent>%?)",
                     re.IGNORECASE)
_NOISE = 1e-6        # relative: of single precision, and of a half unit that is computed
_NEAR = 1e-3         # relative: who rounds on the way is this near, whatever the last digits say


@dataclass(frozen=True)
class Digits:
    """So many significant digits count: a value rightly rounded to them, or to more, is right."""

    wanted: int

    @property
    def relative(self) -> float:
        """Half a unit of the last digit, of the smallest number with so many."""
        return 0.5 * 10.0 ** (1 - self.wanted)

    def agree(self, given: float, expected: float) -> bool:
        """Whether `given` is `expected` rounded to the digits wanted or more, or all but equal."""
        if not math.isfinite(given) or not expected:
            return given == expected
        near = min(_NEAR * abs(expected), _half_unit(expected, self.wanted))
        return abs(given - expected) <= near or any(
            _is_rounded(given, expected, digits) for digits in range(self.wanted, 7))

    def too_coarse(self, given: float, expected: float, least: int = 1) -> bool:
        """Whether `given` is `expected`, rounded to fewer digits than wanted, `least` or more."""
        if not math.isfinite(given) or not expected:
            return False
        return any(_is_rounded(given, expected, digits) for digits in range(least, self.wanted))

    def __str__(self) -> str:
        return f"{self.wanted} digit{'s' if self.wanted > 1 else ''}"


def _half_unit(number: float, digits: int) -> float:
    """Half a unit of the last of so many significant digits."""
    return 0.5 * 10.0 ** (math.floor(math.log10(abs(number))) + 1 - digits)


def _is_rounded(given: float, expected: float, digits: int) -> bool:
    """Whether `given` has no more than so many digits, and they are those of `expected`."""
    half = _half_unit(expected, digits)
    short = math.isclose(given, 2 * half * round(given / (2 * half)), rel_tol=_NOISE)
    return short and abs(given - expected) <= half * (1 + _NOISE) + _NOISE * abs(expected)


def readings(answer: Any, unit: str) -> list[tuple[Any, str]]:
    """What a typed answer may mean, as it stands first: values, each with a remark.

    "34.2 %" is 0.342, but 34.2 where percent are asked for; of a share, 34.2 may be percent.
    """
    value, remark = item(answer), ""
    found = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        divided = found["percent"] and unit != "percent"
        value = float(found["number"]) / (100 if divided else 1)
        remark = " A number will do, without quotes."
    plain = [(value if found else answer, remark)]
    if unit == "share" and not found and type(value) in (int, float) and value > 1:
        plain.append((value / 100, f" You gave percent; as a share it is {value / 100:g}."))
    return plain
