"""Objectives of `distill` on logits: dataclasses around losses that are plain functions.

Where a student has a distillation token, its head learns from the teacher and the class token's
head from the labels, as in DeiT (arXiv 2012.12877). Page:
chapters/distillation/response_distillation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...errors import LabError, plain_numbers, require_choice, require_range
from ...training import Batch, label_loss
from ..model_outputs import ModelOutputs
from .losses import (decoupled_loss, deit_loss, dist_loss, divergence, hard_target_loss,
                     require_temperature, sharpness_temperatures, smooth_labels, soft_target_loss,
                     standardize)


class _WithTemperature:
    """Objectives with a temperature, which is checked before any step."""

    def __post_init__(self) -> None:
        require_temperature(type(self).__name__, self.temperature)


@plain_numbers
@dataclass(frozen=True)
class Labels:
    """Cross-entropy with the labels, those of mixed pictures by their shares; needs no teacher."""

    weight: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_range("Labels", "smoothing", self.smoothing, 0, 1)

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return label_loss(student.logits, batch, self.smoothing)


@plain_numbers
@dataclass(frozen=True)
class SoftTargets(_WithTemperature):
    """`soft_target_loss`, also of `standardized` logits.

    Annealed, the temperature goes evenly to `final_temperature` at step `steps`.
    """

    temperature: float = 4.0
    weight: float = 1.0
    standardized: bool = False
    final_temperature: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.final_temperature is None) != (self.steps is None):
            raise LabError(f"SoftTargets: final_temperature={self.final_temperature} and steps="
                           f"{self.steps}; annealing needs both: final_temperature=1, steps=500")
        if self.steps is not None:
            require_temperature("SoftTargets", self.final_temperature, "final_temperature")
            require_range("SoftTargets", "steps", self.steps, 1)

    def temperature_at(self, step: int) -> float:
        """The temperature of a step, counted from 1; after `steps` it stays."""
        if self.steps is None:
            return self.temperature
        share = min(1.0, (step - 1) / max(1, self.steps - 1))
        return self.temperature + share * (self.final_temperature - self.temperature)

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        ours, theirs = student.taught_logits, teacher.logits
        if self.standardized:
            ours, theirs = standardize(ours), standardize(theirs)
        return soft_target_loss(ours, theirs, self.temperature_at(batch.step))


@plain_numbers
@dataclass(frozen=True)
class HardTargets:
    """`hard_target_loss`."""

    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return hard_target_loss(student.taught_logits, teacher.logits)


@plain_numbers
@dataclass(frozen=True)
class PerSample(_WithTemperature):
    """Divergence at `sharpness_temperatures`, times the product of both (arXiv 2404.12711)."""

    temperature: float = 4.0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        ours, theirs = student.taught_logits, teacher.logits
        own, other = sharpness_temperatures(ours, theirs, self.temperature)
        return (own * other * divergence(ours / own, theirs / other)).mean()


@plain_numbers
@dataclass(frozen=True)
class DistillationToken(_WithTemperature):
    """`deit_loss`, which includes the labels: give no `Labels` too. Needs a distillation token."""

    kind: str = "hard"
    alpha: float = 0.5
    temperature: float = 1.0
    weight: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("DistillationToken", "kind", self.kind, ("hard", "soft"))
        require_range("DistillationToken", "alpha", self.alpha, 0, 1)

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        if student.token_logits is None:
            raise LabError("DistillationToken: the student has no distillation token; create it "
                           "with distilled=True, or use HardTargets or SoftTargets")
        classes = student.logits.shape[1]
        labels = batch.by_labels(lambda labels: smooth_labels(labels, classes, self.smoothing))
        return deit_loss(student.logits, student.token_logits, teacher.logits, labels, self.kind,
                         self.alpha, self.temperature)


@plain_numbers
@dataclass(frozen=True)
class Decoupled(_WithTemperature):
    """`decoupled_loss`; of mixed pictures, that of both labels by their shares."""

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        logits = student.taught_logits, teacher.logits
        return batch.by_labels(lambda labels: decoupled_loss(*logits, labels, self.alpha, self.beta,
                                                             self.temperature))


@plain_numbers
@dataclass(frozen=True)
class Correlation(_WithTemperature):
    """`dist_loss`."""

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return dist_loss(student.taught_logits, teacher.logits, self.beta, self.gamma,
                         self.temperature)
