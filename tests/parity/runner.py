"""Runs every case of a folder through its adapter, and says what passed, what failed and what is
not yet covered.
"""

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from .adapters import NOT_COMPARED, Adapter, NotCovered, adapter_of
from .cases import Case, read_case
from .comparing import difference

PASSED, FAILED, NOT_COVERED = "passed", "failed", "not yet covered"


@dataclass
class Result:
    """What became of one case: how many numbers or arrays agreed, what went wrong, and what
    nobody compared.
    """

    name: str
    kind: str
    outcome: str
    compared: int = 0
    lines: list[str] = field(default_factory=list)


def run(root: Path, out: TextIO) -> int:
    """Report on every case under `root`; returns 1 if one failed, else 0, also where there are
    none.
    """
    counts = dict.fromkeys((PASSED, FAILED, NOT_COVERED), 0)
    for result in results(root):
        counts[result.outcome] += 1
        agreed = f": {result.compared} quantities agree" if result.outcome == PASSED else ""
        print(f"{result.outcome:15}  {result.name} ({result.kind}){agreed}", file=out)
        for line in result.lines:
            print(f"{'':15}    {line}", file=out, flush=True)
    if not any(counts.values()):
        print(f"parity: no fixtures in {root}; nothing was compared", file=out)
    else:
        print(
            "parity: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
            file=out,
        )
    return 1 if counts[FAILED] else 0


def results(root: Path) -> Iterator[Result]:
    """The result of each case under `root`, in the order of their paths."""
    paths = sorted(path for path in root.rglob("*") if path.suffix in (".json", ".npz"))
    for path in paths:
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.suffix == ".json":
            try:
                case = read_case(path, root)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a file is its failure
                yield Result(name, "unreadable", FAILED, lines=[f"{type(error).__name__}: {error}"])
            else:
                yield check(case)
        elif not path.with_suffix(".json").exists():
            lines = ["an .npz without the .json that says what it is"]
            yield Result(name, "unreadable", FAILED, lines=lines)


def check(case: Case) -> Result:
    """Give one case to the adapter of its kind. What an adapter raises is the case's failure."""
    adapter = adapter_of(case)
    if adapter is None:
        return Result(case.name, case.kind, NOT_COVERED)
    try:
        found = list(adapter.run(case))
    except NotCovered as error:
        return Result(case.name, adapter.kind, NOT_COVERED, lines=[str(error)])
    except Exception as error:  # noqa: BLE001  as above
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        lines = [f"{type(error).__name__}: {error} ({where})"]
        return Result(case.name, adapter.kind, FAILED, lines=lines)
    return _compared(case, adapter, found)


def _compared(case: Case, adapter: Adapter, found: list[tuple[str, object]]) -> Result:
    """Compare what an adapter `found`, by name; a name may come twice, from two implementations
    in the library.
    """
    expected = case.expected(adapter.settings)
    wrong, agreed = [], set()
    for key, value in found:
        if key not in expected:
            continue
        apart = difference(expected[key], value, *case.tolerance)
        wrong += [f"{key}: {apart}"] if apart else []
        agreed.add(key)
    lines = wrong + list(_left_out(key for key in expected if key not in agreed))
    if not agreed:
        lines.insert(0, "nothing that it expects was compared")
    return Result(
        case.name, adapter.kind, PASSED if agreed and not wrong else FAILED, len(agreed), lines
    )


def _left_out(keys: Iterable[str]) -> Iterator[str]:
    """The names that were not compared, by the reason why."""
    by_reason: dict[str, list[str]] = {}
    for key in keys:
        reason = next(
            (why for pattern, why in NOT_COMPARED.items() if pattern.search(key)),
            "no adapter compares it",
        )
        by_reason.setdefault(reason, []).append(key)
    for reason, names in by_reason.items():
        yield f"not compared: {', '.join(dict.fromkeys(map(_shortened, names)))} ({reason})"


def _shortened(name: str) -> str:
    """Names of one group of three levels or more as one: `flops.fvcore_by_op.*`."""
    return name if name.count(".") < 2 else ".".join(name.split(".")[:2]) + ".*"
