"""The rule for a wanted accuracy or cost, and temperatures for the exits, chosen on validation
pictures.

Each exit runs once on the pictures; what is tried out then only reads its logits. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_logits, require_range
from ...models.transforming import copied
from ...runtime.running import as_input, on_device
from ...runtime.wrapped import require_unwrapped
from .exits import EarlyExitViT, require_exits
from .report import BATCH, exit_macs, require_pictures
from .rules import RULES, Confidence, Patience, Rule, confidence, exits_taken

MOST_THRESHOLDS = 200
TEMPERATURES = torch.logspace(-1, 1, 81, device="cpu")       # 0.1 to 10, six percent apart


@plain_numbers
def every_logit(model: EarlyExitViT, data: Pictures, batch_size: int = BATCH) -> Tensor:
    """Logits of all exits for all pictures, (exits + 1, N, classes), on the CPU: what rules are
    calibrated on.
    """
    model = require_pictures("every_logit", model, data, batch_size)
    with on_device(model):
        found = [torch.stack(model(as_input(model, data.batch(index)[0]), every=True)).float().cpu()
                 for index in torch.arange(len(data)).split(batch_size)]
    logits = torch.cat(found, dim=1)
    require_logits("every_logit", model, logits[-1], data.labels)
    return logits


@dataclass(frozen=True)
class Point:
    """A rule, and what it does to the pictures it was tried on: `accuracy`, and mean MACs of a
    picture.
    """

    rule: Rule
    accuracy: float
    mean_macs: float


def trade_off(model: EarlyExitViT, data: Pictures, kind: str = "confidence") -> list[Point]:
    """What each threshold ("confidence") or number of exits ("patience") does to `data`, the
    cheapest first.

    Each exit runs once, and the rules read its logits. Thresholds are quantiles of the confidences
    that occur.
    """
    require_choice("trade_off", "kind", kind, RULES)
    logits = every_logit(model, data)
    macs = torch.tensor(exit_macs(model, tuple(data.batch(torch.arange(1))[0].shape[1:])), device="cpu").double()
    right = logits.argmax(2) == data.labels
    points = []
    for rule in _candidates(kind, logits):
        taken = exits_taken(rule, logits)
        hits = right.gather(0, taken[None])[0]
        points.append(Point(rule, hits.double().mean().item(), macs[taken].mean().item()))
    return sorted(points, key=lambda point: point.mean_macs)


@plain_numbers
def calibrate_rule(model: EarlyExitViT, data: Pictures, accuracy: float | None = None,
                   mean_macs: float | None = None, kind: str = "confidence") -> Point:
    """The cheapest rule of at least `accuracy` on `data`, or the most accurate of at most
    `mean_macs`: give one.

    Give validation pictures. `with_rule(model, point.rule)` then uses it. Raises LabError where no
    rule reaches what is wanted, and says what is reached.
    """
    if (accuracy is None) == (mean_macs is None):
        raise LabError(f"calibrate_rule: accuracy={accuracy}, mean_macs={mean_macs}; give exactly one of both")
    require_range("calibrate_rule", "accuracy", 1 if accuracy is None else accuracy, 0, 1)
    require_range("calibrate_rule", "mean_macs", 1 if mean_macs is None else mean_macs, 0)
    points = trade_off(model, data, kind)
    if accuracy is not None:
        best = max(point.accuracy for point in points)
        fitting = [point for point in points if point.accuracy >= accuracy]
        reached = f"no {kind} reaches accuracy={accuracy}; the best is {best:.4f}, give at most that"
        key = lambda point: (point.mean_macs, -point.accuracy)              # noqa: E731
    else:
        fitting = [point for point in points if point.mean_macs <= mean_macs]
        reached = f"no {kind} costs as little as mean_macs={mean_macs}; the cheapest is {points[0].mean_macs:.0f}"
        key = lambda point: (-point.accuracy, point.mean_macs)              # noqa: E731
    if not fitting:
        raise LabError(f"calibrate_rule: {reached}, or train the exits longer: exit_training.train_exits")
    return min(fitting, key=key)


def calibrate_confidence(model: EarlyExitViT, data: Pictures) -> EarlyExitViT:
    """A copy of `model` whose exits say how sure they are: each one's logits divided by the
    temperature that fits best.

    "Best" is the least loss on `data`, which should be validation pictures (temperature scaling,
    arXiv 1706.04599). What an exit names first stays; the model's own end stays as it is. Shapes
    stay, so no plan is added.
    """
    require_unwrapped("calibrate_confidence", model)
    require_exits("calibrate_confidence", model)
    logits = every_logit(model, data)
    scaled = copied(model).eval()
    for head, own in zip(scaled.exits, logits):
        losses = torch.stack([F.cross_entropy(own / value, data.labels) for value in TEMPERATURES])
        head.temperature.mul_(TEMPERATURES[losses.argmin()].to(head.temperature))
    return scaled


def _candidates(kind: str, logits: Tensor) -> Sequence[Rule]:
    if kind == "patience":
        return [Patience(agree) for agree in range(1, len(logits))]
    sure = confidence(logits[:-1]).flatten().unique()
    # between what occurs: rounding then turns no picture back
    sure = (sure[1:] + sure[:-1]) / 2
    chosen = sure[torch.linspace(0, len(sure) - 1, min(len(sure), MOST_THRESHOLDS), device="cpu").long()]
    return [Confidence(value) for value in [0.0, *chosen.tolist(), 1.0]]
