"""What a check found, as text in terminals and as a small box in notebooks."""

from __future__ import annotations

from dataclasses import dataclass

from .boxes import check_box


@dataclass(frozen=True)
class CheckResult:
    """What a check found. `status` is "passed", "not started", "wrong" or "error"; `mistake` names
    the known one seen.

    `beside` holds expected and given where both are small; `drawing` shows them as HTML where they
    are maps or pictures; `printed` is what the answer printed, cut; `seed` is the one that the
    inputs were drawn with.
    """

    status: str
    exercise_id: str
    message: str
    beside: str = ""
    mistake: str | None = None
    seed: int | None = None
    drawing: str = ""
    printed: str = ""

    def __repr__(self) -> str:
        lines = self.beside.splitlines() + (["it printed:", *self.printed.splitlines()] if self.printed else [])
        return f"[{self.status}] {self.exercise_id}: {self.message}" + "".join(f"\n    {line}" for line in lines)

    def _repr_html_(self) -> str:
        return check_box(self.status, self.exercise_id, self.message, self.beside, self.drawing, self.printed)
