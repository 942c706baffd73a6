"""Rules by which a picture leaves at an exit. Page: chapters/dynamic/early_exit.

A rule is a frozen dataclass with `leaves(passed) -> (B,) booleans`, where `passed` lists the logits
(B, classes) of the exits up to the one at which the pictures now stand. So the same rule serves the
model that runs and the calibration that only reads stored logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ...errors import LabError, number, plain_numbers, require_range, require_whole


@plain_numbers
@dataclass(frozen=True)
class Confidence:
    """Leave where the largest probability reaches `threshold`."""

    threshold: float

    def __post_init__(self) -> None:
        if number(self.threshold) is None or not 0 <= self.threshold <= 1:
            raise LabError(f"Confidence: threshold={self.threshold!r}; give 0 <= threshold <= 1, "
                           "since more is reached by no picture, or with_rule(model, None)")

    def leaves(self, passed: Sequence[Tensor]) -> Tensor:
        """(B,): whether the exit is sure enough."""
        return confidence(passed[-1]) >= self.threshold


@plain_numbers
@dataclass(frozen=True)
class Entropy:
    """Leave where the entropy of the probabilities, over its largest value log(classes), is small.

    BranchyNet's rule (arXiv 1709.01686), which does not divide; so thresholds lie in 0 to 1 here.
    """

    threshold: float

    def __post_init__(self) -> None:
        require_range("Entropy", "threshold", self.threshold, 0, 1)

    def leaves(self, passed: Sequence[Tensor]) -> Tensor:
        """(B,): whether the exit's entropy is at most the threshold."""
        return entropy(passed[-1]) <= self.threshold


@plain_numbers
@dataclass(frozen=True)
class Patience:
    """Leave where the last `agree` exits name the same class (PABEE, arXiv 2006.04152)."""

    agree: int = 2

    def __post_init__(self) -> None:
        require_whole("Patience", "agree", self.agree, 1)

    def leaves(self, passed: Sequence[Tensor]) -> Tensor:
        """(B,): whether so many exits agree."""
        guesses = torch.stack([logits.argmax(1) for logits in passed[-self.agree:]])
        return (guesses == guesses[0]).all(0) & (len(passed) >= self.agree)


Rule = Confidence | Entropy | Patience
RULES: dict[str, type[Rule]] = {"confidence": Confidence, "entropy": Entropy, "patience": Patience}


def confidence(logits: Tensor) -> Tensor:
    """The largest softmax probability, (..., classes) -> (...), in float32."""
    return logits.float().softmax(-1).amax(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of the softmax over log(classes), (..., classes) -> (...), 0 to 1, in float32."""
    probabilities = logits.float().softmax(-1)
    return torch.special.entr(probabilities).sum(-1) / math.log(logits.shape[-1])


def rule_to_plan(rule: Rule | None) -> dict[str, Any] | None:
    """`rule` as plain data. Raises LabError if it is none."""
    if rule is None:
        return None
    if not isinstance(rule, Rule):
        raise LabError(f"early_exit: rule={rule!r} is no rule; give Confidence(0.9), Entropy(0.3), "
                       "Patience(2), or None for no exit")
    return {"name": type(rule).__name__.lower(), **asdict(rule)}


def rule_from_plan(plan: Any, exits: int) -> Rule | None:
    """The rule of `rule_to_plan`. Raises LabError on other data, and where no picture can leave.

    `exits`: how many exits there are before the end.
    """
    if plan is None:
        return None
    values = dict(plan) if isinstance(plan, dict) else {}
    kind = RULES.get(str(values.pop("name", None)))
    if kind is None or [*values] != [field.name for field in fields(kind)]:
        raise LabError(f"early_exit: {str(plan)[:80]} describes no rule; plans are those of "
                       "add_exits and with_rule")
    rule = kind(**values)
    if isinstance(rule, Patience) and rule.agree > exits:
        raise LabError(f"early_exit: {rule} waits for more exits than the {exits} there are, so "
                       f"no picture leaves early; give 1 <= agree <= {exits}, or rule=None")
    return rule


def exits_taken(rule: Rule | None, logits: Tensor) -> Tensor:
    """The exit that each picture takes, (N,), by logits (exits + 1, N, classes), the end's last."""
    end = len(logits) - 1
    taken = torch.full(logits.shape[1:2], end, device=logits.device)
    for place in reversed(range(end if rule is not None else 0)):
        taken[rule.leaves(list(logits[:place + 1]))] = place
    return taken
