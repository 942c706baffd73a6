"""What exits cost and give, and the rule for a wanted accuracy or cost.

Rules and temperatures are chosen on validation pictures: each exit runs once on them, and what is
tried then only reads its logits. Page: chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_logits, require_range
from ...models.transforming import copied
from ...profiling.counting import macs_until
from ...runtime.running import as_input, on_device
from ...runtime.wrapped import require_unwrapped
from ...training import Score
from .exits import EarlyExitViT, require_exits
from .rules import Confidence, Entropy, Rule, confidence, entropy, exits_taken

BATCH, BINS, MAX_THRESHOLDS = 256, 10, 200
MEASURES = {Confidence: confidence, Entropy: entropy}        # of what a rule's threshold is one
TEMPERATURES = torch.logspace(-1, 1, 81, device="cpu")       # 0.1 to 10, six percent apart


@dataclass(frozen=True)
class Reliability:
    """Pictures in bins of equal width by confidence.

    Of each bin the `counts`, the mean `confidence` and the share `right`. `error` is the expected
    calibration error: the mean gap |confidence - right| over the pictures (arXiv 1706.04599).
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    right: tuple[float, ...]
    error: float


@dataclass(frozen=True)
class ExitReport:
    """What a model did with N pictures: of each `exits`, `confidence` and `right`, all (N,).

    `macs` is the cost of leaving at each exit, the end's last; `score` is the accuracy of all,
    `reliability` that of the confidence with which pictures left.
    """

    exits: Tensor
    confidence: Tensor
    right: Tensor
    macs: tuple[int, ...]
    score: Score
    reliability: Reliability

    @property
    def mean_macs(self) -> float:
        """MACs of a picture, on average."""
        return torch.tensor(self.macs, device="cpu").double()[self.exits].mean().item()

    @property
    def counts(self) -> tuple[int, ...]:
        """Pictures that left at each exit."""
        return tuple(self.exits.bincount(minlength=len(self.macs)).tolist())

    @plain_numbers
    def exited_at(self, exit: int) -> Tensor:
        """The pictures that left at `exit`, counted from 0: places in the set, the surest first."""
        require_choice("exited_at", "exit", exit, range(len(self.macs)))
        places = (self.exits == exit).nonzero().flatten()
        return places[self.confidence[places].argsort(descending=True)]

    def table(self) -> str:
        """Lines of text: MACs, pictures and accuracy of each exit, and of all."""
        lines = [f"{'exit':>6} {'MACs':>14} {'pictures':>9} {'right':>7}"]
        names = [*map(str, range(len(self.macs) - 1)), "final"]
        for place, (name, macs, pictures) in enumerate(zip(names, self.macs, self.counts)):
            share = self.right[self.exits == place].float().mean()
            right = f"{share:7.1%}" if pictures else f"{'-':>7}"
            lines.append(f"{name:>6} {macs:14,} {pictures:9,} {right}")
        lines.append(f"{'all':>6} {self.mean_macs:14,.0f} {self.score.count:9,} "
                     f"{self.score.accuracy:7.1%}")
        return "\n".join([*lines, f"expected calibration error {self.reliability.error:.3f}"])


@plain_numbers
def exit_report(model: EarlyExitViT, data: Pictures, batch_size: int = BATCH) -> ExitReport:
    """Run `model` on all of `data`, pictures really leaving by its rule.

    Tensors of the report lie on the CPU. Raises LabError without exits or pictures.
    """
    model = require_exits("exit_report", model)
    logits, exits = _over_pictures("exit_report", model, data, batch_size, model.leave)
    require_logits("exit_report", model, logits, data.labels)
    sure, right = confidence(logits), logits.argmax(1) == data.labels
    score = Score.of(int(right.sum()), len(right))
    macs = exit_macs(model, _input_size(data))
    return ExitReport(exits, sure, right, macs, score, reliability(sure, right))


@plain_numbers
def reliability(sure: Tensor, right: Tensor, bins: int = BINS) -> Reliability:
    """Bins of confidences (N,) in [0, 1] against whether they were `right` (N,)."""
    require_range("reliability", "bins", bins, 1)
    sure, right = sure.detach().cpu().double(), right.cpu().double()
    place = (sure * bins).ceil().long().sub(1).clamp(0, bins - 1)    # (low, high], as is usual
    counts = place.bincount(minlength=bins)
    sums = [place.bincount(values, minlength=bins) for values in (sure, right)]
    means = [tuple((one / counts.clamp(min=1)).tolist()) for one in sums]
    error = (sums[0] - sums[1]).abs().sum().item() / len(sure)
    return Reliability(tuple(counts.tolist()), *means, error)


@plain_numbers
def exit_macs(model: EarlyExitViT,
              input_size: tuple[int, int, int] = (3, 224, 224)) -> tuple[int, ...]:
    """MACs of one picture (channels, height, width) that leaves at each exit, or at the end."""
    model = require_exits("exit_macs", model)
    return macs_until(model, EarlyExitViT.each, input_size, "exit_macs")


@plain_numbers
def every_logit(model: EarlyExitViT, data: Pictures, batch_size: int = BATCH) -> Tensor:
    """Logits of all exits for all pictures, (exits + 1, N, classes), on the CPU."""
    model = require_exits("every_logit", model)
    logits = torch.stack(_over_pictures("every_logit", model, data, batch_size,
                                        lambda inputs: model(inputs, every=True)))
    require_logits("every_logit", model, logits[-1], data.labels)
    return logits


@dataclass(frozen=True)
class Point:
    """A rule, and its `accuracy` and mean MACs of a picture on the pictures it was tried on."""

    rule: Rule
    accuracy: float
    mean_macs: float


def trade_off(model: EarlyExitViT, data: Pictures,
              rule: type[Confidence] | type[Entropy] = Confidence) -> list[Point]:
    """What each threshold of `rule` gives on `data`, the cheapest first.

    Thresholds are quantiles of the confidences, or entropies, that occur.
    """
    require_choice("trade_off", "rule", getattr(rule, "__name__", rule),
                   [kind.__name__ for kind in MEASURES])
    logits = every_logit(model, data)
    macs = torch.tensor(exit_macs(model, _input_size(data)), device="cpu").double()
    right = logits.argmax(2) == data.labels
    points = []
    for threshold in _thresholds(MEASURES[rule](logits[:-1])):
        taken = exits_taken(rule(threshold), logits)
        accuracy = right.gather(0, taken[None]).double().mean().item()
        points.append(Point(rule(threshold), accuracy, macs[taken].mean().item()))
    return sorted(points, key=lambda point: point.mean_macs)


@plain_numbers
def calibrate_rule(model: EarlyExitViT, data: Pictures, accuracy: float | None = None,
                   mean_macs: float | None = None,
                   rule: type[Confidence] | type[Entropy] = Confidence) -> Point:
    """The cheapest rule of at least `accuracy`, or the most accurate of at most `mean_macs`.

    `rule` says of which kind: Confidence or Entropy. Give one of both goals, and validation
    pictures; `with_rule(model, point.rule)` then uses the rule.
    Raises LabError where no rule reaches the goal, and says what is reached.
    """
    return choose_rule(trade_off(model, data, rule), accuracy, mean_macs)


@plain_numbers
def choose_rule(points: Sequence[Point], accuracy: float | None = None,
                mean_macs: float | None = None) -> Point:
    """The rule that `calibrate_rule` chooses, from `points` of `trade_off(model, data)`."""
    if (accuracy is None) == (mean_macs is None):
        raise LabError(f"calibrate_rule: accuracy={accuracy}, mean_macs={mean_macs}; give exactly "
                       "one of both")
    require_range("calibrate_rule", "accuracy", 1 if accuracy is None else accuracy, 0, 1)
    require_range("calibrate_rule", "mean_macs", 1 if mean_macs is None else mean_macs, 0)
    if accuracy is not None:
        order = sorted(points, key=lambda point: (point.mean_macs, -point.accuracy))
        fitting = [point for point in order if point.accuracy >= accuracy]
        reached = f"accuracy={accuracy}; the best is {max(one.accuracy for one in points):.4f}"
    else:
        order = sorted(points, key=lambda point: (-point.accuracy, point.mean_macs))
        fitting = [point for point in order if point.mean_macs <= mean_macs]
        cheapest = min(point.mean_macs for point in points)
        reached = f"mean_macs={mean_macs}; the cheapest is {cheapest:.0f}"
    if not fitting:
        raise LabError(f"calibrate_rule: no threshold reaches {reached}. Ask for that, or train "
                       "the exits longer: train_exits")
    return fitting[0]


def calibrate_confidence(model: EarlyExitViT, data: Pictures) -> EarlyExitViT:
    """A copy of `model` with the logits of each exit divided by the temperature that fits best.

    "Best" is the least loss on `data`, which should be validation pictures (temperature scaling,
    arXiv 1706.04599). The class that an exit names stays; the model's own end stays as it is.
    Shapes stay, so no plan is added.
    """
    require_unwrapped("calibrate_confidence", model)
    logits = every_logit(model, data)
    scaled = copied(model).eval()
    for head, own in zip(scaled.exits, logits):
        losses = torch.stack([F.cross_entropy(own / value, data.labels) for value in TEMPERATURES])
        head.temperature.mul_(TEMPERATURES[losses.argmin()].to(head.temperature))
    return scaled


def _over_pictures(caller: str, model: EarlyExitViT, data: Pictures, batch_size: int,
                   run: Callable[[Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
    """What `run` returns for the inputs of all pictures, on the CPU, floats in float32."""
    require_range(caller, "batch_size", batch_size, 1)
    if len(data) == 0:
        raise LabError(f"{caller}: there are 0 pictures; give at least one")
    batches = []
    with on_device(model):
        for index in torch.arange(len(data)).split(batch_size):
            outputs = run(as_input(model, data.batch(index)[0]))
            batches.append([part.cpu() for part in outputs])
    joined = [torch.cat(parts) for parts in zip(*batches)]
    return [part.float() if part.is_floating_point() else part for part in joined]


def _input_size(data: Pictures) -> tuple[int, ...]:
    return (3, *data.pixels.shape[2:])


def _thresholds(sure: Tensor) -> list[float]:
    """0, 1, and at most MAX_THRESHOLDS between the values that occur."""
    sure = sure.flatten().unique()
    sure = (sure[1:] + sure[:-1]) / 2        # between them, so that rounding turns no picture back
    places = torch.linspace(0, len(sure) - 1, min(len(sure), MAX_THRESHOLDS), device="cpu").long()
    return [0.0, *sure[places].tolist(), 1.0]
