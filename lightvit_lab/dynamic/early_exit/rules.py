"""When a picture has been seen enough: rules by which it leaves at an exit. Page:
chapters/dynamic/early_exit.

A rule is a frozen dataclass with `leaves(seen) -> (B,) booleans`, where `seen` lists the logits (B,
classes) of the exits passed so far, the last one being the exit at which the pictures now stand. So
the same rule serves the model that runs and the calibration that only reads stored logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import LabError, number, plain_numbers, require_choice, require_whole


@plain_numbers
@dataclass(frozen=True)
class Confidence:
    """Leave where the largest probability reaches `threshold` (as in BranchyNet, arXiv 1709.01686,
    by entropy).
    """

    threshold: float
    name: ClassVar[str] = "confidence"

    def __post_init__(self) -> None:
        given = self.threshold
        if number(given) is None or not 0 <= given <= 1:
            raise LabError(f"Confidence: threshold={given!r}; a probability is 0 <= threshold <= 1, and more is "
                           "reached by no picture. early_exit.with_rule(model, None) lets all pass")

    def leaves(self, seen: Sequence[Tensor]) -> Tensor:
        """(B,): whether the exit is sure enough."""
        return confidence(seen[-1]) >= self.threshold


@plain_numbers
@dataclass(frozen=True)
class Patience:
    """Leave where the last `agree` exits name the same class (PABEE, arXiv 2006.04152); 1 leaves at
    the first exit.
    """

    agree: int = 2
    name: ClassVar[str] = "patience"

    def __post_init__(self) -> None:
        require_whole("Patience", "agree", self.agree, 1)

    def leaves(self, seen: Sequence[Tensor]) -> Tensor:
        """(B,): whether so many exits agree."""
        if len(seen) < self.agree:
            return torch.zeros(seen[-1].shape[0], dtype=torch.bool, device=seen[-1].device)
        guesses = torch.stack([logits.argmax(1) for logits in seen[-self.agree:]])
        return (guesses == guesses[0]).all(0)


Rule = Confidence | Patience
RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Confidence, Patience)}


def confidence(logits: Tensor) -> Tensor:
    """The largest softmax probability, (..., classes) -> (...), in float32."""
    return logits.float().softmax(-1).amax(-1)


def described(rule: Rule | None) -> dict[str, Any] | None:
    """`rule` as plain data for a plan. Raises LabError if it is none."""
    if rule is None:
        return None
    if not isinstance(rule, Confidence | Patience):
        raise LabError(f"early_exit: rule={rule!r} is no rule; give Confidence(0.9), Patience(2), or None for no exit")
    return {"name": rule.name, **asdict(rule)}


def rule_of(described: Any) -> Rule | None:
    """The rule of a plan. Raises LabError on any other data."""
    if described is None:
        return None
    if not isinstance(described, dict) or len(described) != 2:
        raise LabError(f"early_exit: {str(described)[:80]} describes no rule; plans are made by add_exits and "
                       "with_rule")
    require_choice("early_exit", "rule", described.get("name"), RULES)
    kind = RULES[described["name"]]
    field = next(iter(kind.__dataclass_fields__))
    require_choice("early_exit", f"the value of {kind.name}", next(key for key in described if key != "name"), [field])
    return kind(described[field])


def require_reachable(caller: str, rule: Rule | None, exits: int) -> None:
    """Raise LabError if `rule` waits for more exits than there are before the end."""
    if isinstance(rule, Patience) and rule.agree > exits:
        raise LabError(f"{caller}: Patience(agree={rule.agree}) waits for more exits than the {exits} there are, so no "
                       f"picture leaves early; give 1 <= agree <= {exits}, or rule=None")


def exits_taken(rule: Rule | None, logits: Tensor) -> Tensor:
    """Which exit each picture takes, (N,), of logits (exits + 1, N, classes); the last is the
    model's own end.
    """
    end = len(logits) - 1
    taken = torch.full(logits.shape[1:2], end, device=logits.device)
    for place in reversed(range(end if rule is not None else 0)):
        taken[rule.leaves(list(logits[: place + 1]))] = place
    return taken
