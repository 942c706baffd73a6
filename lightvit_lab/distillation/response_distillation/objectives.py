"""Losses on logits (B, classes) for answers that differ from the teacher's, and their objectives.

Losses are plain functions of the student's and the teacher's logits, means over the pictures; no
gradient reaches the teacher. Objectives are for `distill`. Where a student has a distillation
token, its head learns from the teacher and the class token's head from the labels, as in DeiT
(arXiv 2012.12877). Page: chapters/distillation/response_distillation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, number, plain_numbers, require_choice, require_range
from ...training import Batch, label_loss
from ..model_outputs import ModelOutputs, objective

LEAST = 1e-6        # the lowest temperature: below it logits overflow


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    """T^2 KL(teacher || student) of both softmaxes at `temperature` T, the mean over pictures.

    Expectations are by the teacher's distribution: the student pays wherever it gives little to
    what the teacher gives much. Without T^2 the gradients would shrink as 1 / T^2. T may be a
    tensor (B, 1), one for each picture. Raises LabError on shapes that differ and on T <= 0. arXiv
    1503.02531.
    """
    _require_pair("soft_target_loss", student, teacher)
    require_temperature("soft_target_loss", temperature, pictures=len(student))
    return (temperature**2 * divergence(student / temperature, teacher / temperature)).mean()


def hard_target_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the teacher's first choice as the label (DeiT, arXiv 2012.12877)."""
    _require_pair("hard_target_loss", student, teacher)
    return F.cross_entropy(student, teacher.argmax(1))


def deit_loss(class_logits: Tensor, token_logits: Tensor, teacher: Tensor, labels: Tensor,
              kind: str = "hard", alpha: float = 0.5, temperature: float = 1.0) -> Tensor:
    """(1 - alpha) labels' loss of the class token + alpha teacher's of the distillation token.

    `labels` are classes (B,) or probabilities (B, classes), smoothed or mixed. The "soft" kind is
    divided by pictures x classes, as in DeiT's code (arXiv 2012.12877), and so weighs `classes`
    times less than `soft_target_loss`.
    """
    require_choice("deit_loss", "kind", kind, ("hard", "soft"))
    require_range("deit_loss", "alpha", alpha, 0, 1)
    if kind == "hard":
        loss = hard_target_loss(token_logits, teacher)
    else:
        loss = soft_target_loss(token_logits, teacher, temperature) / teacher.shape[1]
    return (1 - alpha) * F.cross_entropy(class_logits, labels) + alpha * loss


def decoupled_loss(student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 1.0,
                   beta: float = 8.0, temperature: float = 4.0) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD), of `decoupled_parts`, the mean over pictures."""
    target, others, _ = decoupled_parts(student, teacher, labels, temperature)
    return temperature**2 * (alpha * target + beta * others).mean()


def decoupled_parts(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0
                    ) -> tuple[Tensor, Tensor, Tensor]:
    """The parts of KL(teacher || student) = TCKD + (1 - p) NCKD: TCKD, NCKD and 1 - p, each (B,).

    TCKD is of the label against all other classes, NCKD among these others, and p the teacher's
    probability of the label: the surer it is, the less its opinion of the other classes counts in
    the plain loss. arXiv 2203.08679.
    """
    _require_pair("decoupled_loss", student, teacher)
    require_temperature("decoupled_loss", temperature)
    own = F.one_hot(labels, student.shape[1]).bool()
    (student_two, student_rest), (teacher_two, teacher_rest) = (
        _apart(logits / temperature, own) for logits in (student, teacher.detach()))
    target = F.kl_div(student_two, teacher_two, reduction="none", log_target=True).sum(1)
    others = F.kl_div(student_rest, teacher_rest, reduction="none", log_target=True).sum(1)
    return target, others, teacher_two[:, 1].exp()


def dist_loss(student: Tensor, teacher: Tensor, beta: float = 1.0, gamma: float = 1.0,
              temperature: float = 1.0) -> Tensor:
    """T^2 (beta (1 - correlation of rows) + gamma (1 - correlation of columns)) of softmaxes.

    A row has the probabilities of one picture, a column those of one class for all pictures of the
    batch. Ranks and proportions are to agree, not values. Raises LabError on a batch of one
    picture, whose columns cannot correlate. DIST, arXiv 2205.10536.
    """
    _require_pair("dist_loss", student, teacher)
    require_temperature("dist_loss", temperature)
    if len(student) < 2:
        raise LabError(f"dist_loss: batch of {len(student)}; correlations need batch_size >= 2")
    ours, theirs = (F.softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    rows, columns = 1 - _correlation(ours, theirs), 1 - _correlation(ours.T, theirs.T)
    return temperature**2 * (beta * rows.mean() + gamma * columns.mean())


def standardize(logits: Tensor) -> Tensor:
    """Logits (B, classes) with mean 0 and standard deviation 1 over the classes of each picture.

    A small student need not reach its teacher's range; no Bessel term. arXiv 2403.01427.
    """
    centred = logits - logits.mean(1, keepdim=True)
    return centred / (centred.std(1, correction=0, keepdim=True) + 1e-7)


def sharpness_temperatures(student: Tensor, teacher: Tensor,
                           temperature: float = 4.0) -> tuple[Tensor, Tensor]:
    """Temperatures (B, 1) of student and teacher, of sum 2T: the higher for the sharper of both.

    Sharpness is the log-sum-exp of the logits, as in the paper's text; its authors' code takes the
    largest logit. We subtract the mean of the logits first, since a shift changes no softmax, could
    make a sharpness negative, and is lost in stored logits, and take no gradient: a temperature is
    a choice. arXiv 2404.12711.
    """
    sharpness = [torch.logsumexp(logits - logits.mean(1, keepdim=True), 1, keepdim=True)
                 for logits in (student.detach(), teacher.detach())]
    return tuple(2 * temperature * one / sum(sharpness) for one in sharpness)


def per_sample_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T_s T_t KL(teacher || student) at `sharpness_temperatures` T_s, T_t, the mean over pictures.

    Half of DTKD's loss, arXiv 2404.12711; the other is `soft_target_loss`.
    """
    _require_pair("per_sample_loss", student, teacher)
    require_temperature("per_sample_loss", temperature)
    own, other = sharpness_temperatures(student, teacher, temperature)
    return (own * other * divergence(student / own, teacher / other)).mean()


@plain_numbers
def smooth_labels(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Labels (B,) -> (B, classes): 1 - smoothing for the label, smoothing / classes for all.

    A teacher that knows nothing but the labels: the loss is (1 - s) times theirs + s KL(uniform ||
    student) + constant (arXiv 1909.11723).
    """
    require_range("smooth_labels", "smoothing", smoothing, 0, 1)
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of the softmaxes of logits (B, classes), of each picture: (B, 1)."""
    ours, theirs = F.log_softmax(student, 1), F.log_softmax(teacher.detach(), 1)
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1, keepdim=True)


def _apart(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of label and all others (B, 2), and among the others (B, classes - 1)."""
    others = logits[~own].view(len(logits), -1)
    two = torch.stack([logits[own], others.logsumexp(1)], 1)
    return F.log_softmax(two, 1), F.log_softmax(others, 1)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of each row of (n, m) with the same row of another."""
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (one, other))
    return F.cosine_similarity(one, other, 1)


def _require_pair(caller: str, student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise LabError(f"{caller}: the student's logits are {tuple(student.shape)} and the "
                       f"teacher's {tuple(teacher.shape)}; give both as (pictures, classes)")


def require_temperature(caller: str, value: float | Tensor, name: str = "temperature",
                        pictures: int | None = None) -> None:
    """Raise LabError unless this is a number > 0, or of `pictures` a tensor (pictures, 1)."""
    each = pictures is not None and getattr(value, "shape", ()) in ((pictures, 1), (1, 1))
    numbers = value.flatten().tolist() if each else [number(value)]
    if not all(one is not None and LEAST <= one < math.inf for one in numbers):
        given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise LabError(f"{caller}: {name}={given}; give a number > 0: 1 changes nothing, 4 is "
                       "usual; soft_target_loss also takes a tensor (pictures, 1)")


class _WithTemperature:
    """Objectives with a temperature, and maybe a warm-up, which are checked before any step."""

    warmup: int = 0

    def __post_init__(self) -> None:
        require_temperature(type(self).__name__, self.temperature)
        require_range(type(self).__name__, "warmup", self.warmup, 0)

    def share(self, step: int) -> float:
        """What the term counts at a step, from 1: it rises evenly to 1 during `warmup` steps."""
        return min(1.0, step / self.warmup) if self.warmup else 1.0


@objective
class Labels:
    """Cross-entropy with the labels, those of mixed pictures by their shares; needs no teacher."""

    weight: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_range("Labels", "smoothing", self.smoothing, 0, 1)

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return label_loss(student.logits, batch, self.smoothing)


@objective
class SoftTargets(_WithTemperature):
    """An objective of `distill`: `soft_target_loss`, also of `standardized` logits.

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


@objective
class HardTargets:
    """An objective of `distill`: `hard_target_loss`."""

    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return hard_target_loss(student.taught_logits, teacher.logits)


@objective
class PerSample(_WithTemperature):
    """DTKD: `alpha` * `per_sample_loss` + `beta` * `soft_target_loss`, each at `temperature`.

    Both rise evenly to their weights during the first `warmup` steps; in the authors' code these
    are 20 of 240 epochs. arXiv 2404.12711.
    """

    temperature: float = 4.0
    alpha: float = 3.0
    beta: float = 1.0
    warmup: int = 0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        logits = student.taught_logits, teacher.logits, self.temperature
        both = self.alpha * per_sample_loss(*logits) + self.beta * soft_target_loss(*logits)
        return self.share(batch.step) * both


@objective
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


@objective
class Decoupled(_WithTemperature):
    """`decoupled_loss`; of mixed pictures, that of both labels by their shares.

    It rises evenly during the first `warmup` steps: 20 of 240 epochs in the authors' code.
    """

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    warmup: int = 0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        logits = student.taught_logits, teacher.logits
        return self.share(batch.step) * batch.by_labels(
            lambda labels: decoupled_loss(*logits, labels, self.alpha, self.beta, self.temperature))


@objective
class Correlation(_WithTemperature):
    """An objective of `distill`: `dist_loss`."""

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    weight: float = 1.0

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return dist_loss(student.taught_logits, teacher.logits, self.beta, self.gamma,
                         self.temperature)
