"""What a check found, as text in terminals and as a small box in notebooks."""

from __future__ import annotations

from dataclasses import dataclass

from .boxes import check_box


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    `status` is "passed", "not started", "wrong" or "error"; `mistake` names the known one made.
    `values` holds expected and given where both are small; `drawing` shows them as HTML where they
    are maps or pictures; `printed` is what the answer printed, cut; `seed` is the one that the
    inputs were drawn with.
    """

    status: str
    exercise_id: str
    message: str
    values: str = ""
    mistake: str | None = None
    seed: int | None = None
    drawing: str = ""
    printed: str = ""

    def __repr__(self) -> str:
        lines = [f"[{self.status}] {self.exercise_id}: {self.message}", *self.values.splitlines()]
        if self.printed:
            lines += ["it printed:", *self.printed.splitlines()]
        return "\n    ".join(lines)

    def _repr_html_(self) -> str:
        return check_box(self.status, self.exercise_id, self.message, self.values, self.drawing,
                         self.printed)
