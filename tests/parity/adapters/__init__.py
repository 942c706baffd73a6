"""One adapter a kind of case: it does with the library what the case says was done, and yields what
came of it.

An adapter is a generator of (name, value), the names being those of the case; values for names that
a case lacks are left alone. What a kind is told by is what a case says, never the name of its file.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ..cases import Case

Found = Iterator[tuple[str, Any]]


class NotCovered(Exception):
    """Raised for a case that asks for what the library does not have; says what."""


@dataclass(frozen=True)
class Adapter:
    """`run` for cases of a `kind`, which `takes` knows; `settings` names what describes these
    cases beyond the usual.
    """

    kind: str
    takes: Callable[[Case], bool]
    run: Callable[[Case], Found]
    settings: tuple[str, ...] = ()


ADAPTERS: list[Adapter] = []

# Numbers that cases hold and nobody compares, and why.
NOT_COMPARED = {
    re.compile(pattern): why
    for pattern, why in {
        r"fvcore": "fvcore counts norms too",
        r"macs_tp": "Torch-Pruning's own way of counting",
        r"official_flops_method": "the authors' own method, which leaves a factor out",
        r"torch_by_op": "by operator: fused attention is another operator for the same products",
        r"sha256": "the names themselves are compared",
        r"^fpn": "the neck of a detector, which the library has not",
    }.items()
}


def adapter(
    kind: str, takes: Callable[[Case], bool], settings: tuple[str, ...] = ()
) -> Callable[[Callable[[Case], Found]], Callable[[Case], Found]]:
    """Register a generator function as the adapter of `kind`."""

    def register(run: Callable[[Case], Found]) -> Callable[[Case], Found]:
        ADAPTERS.append(Adapter(kind, takes, run, settings))
        return run

    return register


def adapter_of(case: Case) -> Adapter | None:
    """The adapter of the case's kind, or None where there is none yet."""
    return next((one for one in ADAPTERS if one.takes(case)), None)


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
