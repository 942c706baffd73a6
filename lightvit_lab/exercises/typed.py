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
_NOISE = 1e-9        # of a computed value, relative: half a unit is meant, and not a hair less


@dataclass(frozen=True)
class Digits:
    """So many significant digits count: a value rounded to them, or to more, is the value."""

    wanted: int

    @property
    def relative(self) -> float:
        """Half a unit of the last digit, of the smallest number with so many."""
        return 0.5 * 10.0 ** (1 - self.wanted)

    def half_unit(self, number: float) -> float:
        """Half a unit of the last digit that counts in this number."""
        if not number or not math.isfinite(number):
            return 0.0
        power = math.floor(math.log10(abs(number))) + 1 - self.wanted
        return 0.5 * 10.0 ** power * (1 + _NOISE) + _NOISE * abs(number)

    def agree(self, given: float, expected: float) -> bool:
        """Whether `given` is `expected`, rounded to the digits wanted, or right in one more.

        So 1.11 is 1.1128 to three digits, and 1.1111 is not: it says more, and that is wrong.
        """
        short = math.isclose(given, float(f"{given:.{self.wanted}g}"), rel_tol=1e-6)
        band = self.half_unit(expected) / (1 if short else 5)      # a unit of the next digit
        return given == expected or abs(given - expected) <= band

    def is_rounding(self, given: float, value: float) -> bool:
        """Whether `given` is `value`, rounded to two digits or more, or computed a little off."""
        roundings = (float(f"{value:.{digits}g}") for digits in range(min(2, self.wanted), 13))
        return (any(math.isclose(given, each, rel_tol=1e-6) for each in roundings)
                or math.isclose(given, value, rel_tol=1e-3))

    def too_coarse(self, given: float, expected: float) -> bool:
        """Whether `given` is `expected`, rounded to fewer digits than wanted."""
        rounded = (float(f"{expected:.{digits}g}") for digits in range(1, self.wanted))
        return any(math.isclose(given, each, rel_tol=_NOISE) for each in rounded)

    def __str__(self) -> str:
        return f"{self.wanted} digit{'s' if self.wanted > 1 else ''}"


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
