"""What exits cost and give: MACs up to each, which pictures leave where, and whether confidence
keeps its word.

Page: chapters/dynamic/early_exit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_logits, require_range
from ...profiling import count
from ...runtime.running import as_input, on_device
from ...training import Score, wilson_interval
from .exits import EarlyExitViT, require_exits
from .rules import confidence

BATCH, BINS = 256, 10


@dataclass(frozen=True)
class Reliability:
    """Pictures in bins of equal width by confidence: `counts`, mean `confidence` and share `right`
    of each.

    `error` is the expected calibration error: the mean gap |confidence - right| over the pictures
    (arXiv 1706.04599).
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    right: tuple[float, ...]
    error: float


@dataclass(frozen=True)
class ExitReport:
    """What a model did with N pictures: per picture its `exits` (N,), `confidence` (N,) and `right`
    (N,).

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
        return torch.tensor(self.macs, device="cpu", dtype=torch.double)[self.exits].mean().item()

    @property
    def counts(self) -> tuple[int, ...]:
        """Pictures that left at each exit."""
        return tuple(self.exits.bincount(minlength=len(self.macs)).tolist())

    @plain_numbers
    def left_at(self, exit: int) -> Tensor:
        """Which pictures left at `exit`, from 0: their places in the set, the surest first."""
        require_choice("left_at", "exit", exit, range(len(self.macs)))
        places = (self.exits == exit).nonzero().flatten()
        return places[self.confidence[places].argsort(descending=True)]

    def table(self) -> str:
        """Lines of text: MACs, pictures and accuracy of each exit, and of all."""
        lines = [f"{'exit':>6} {'MACs':>14} {'pictures':>9} {'right':>7}"]
        for place, (macs, pictures) in enumerate(zip(self.macs, self.counts)):
            right = f"{self.right[self.exits == place].float().mean():7.1%}" if pictures else f"{'-':>7}"
            lines.append(f"{'end' if place == len(self.macs) - 1 else place:>6} {macs:14,} {pictures:9,} {right}")
        lines.append(f"{'all':>6} {self.mean_macs:14,.0f} {self.score.count:9,} {self.score.accuracy:7.1%}")
        return "\n".join([*lines, f"expected calibration error {self.reliability.error:.3f}"])


@plain_numbers
def exit_report(model: EarlyExitViT, data: Pictures, batch_size: int = BATCH) -> ExitReport:
    """Run `model` on all of `data`, pictures really leaving by its rule, and say what became of
    each.

    What is found lies on the CPU. Raises LabError if it has no exits or there are no pictures.
    """
    model = require_pictures("exit_report", model, data, batch_size)
    left = []
    with on_device(model):
        for index in torch.arange(len(data)).split(batch_size):
            logits, exits = model.leave(as_input(model, data.batch(index)[0]))
            left.append((logits.float().cpu(), exits.cpu()))
    logits, exits = (torch.cat(parts) for parts in zip(*left))
    require_logits("exit_report", model, logits, data.labels)
    sure, right = confidence(logits), logits.argmax(1) == data.labels
    score = Score(right.float().mean().item(), *wilson_interval(int(right.sum()), len(right)), len(right))
    return ExitReport(exits, sure, right, exit_macs(model, tuple(data.batch(torch.arange(1))[0].shape[1:])), score,
                      reliability(sure, right))


@plain_numbers
def reliability(sure: Tensor, right: Tensor, bins: int = BINS) -> Reliability:
    """Bins of confidences (N,) in [0, 1] against whether they were `right` (N,)."""
    require_range("reliability", "bins", bins, 1)
    sure, right = sure.detach().cpu().double(), right.cpu().double()
    place = (sure * bins).ceil().long().sub(1).clamp(0, bins - 1)    # (low, high], as is usual
    counts = place.bincount(minlength=bins)
    said, was = (place.bincount(value, minlength=bins) for value in (sure, right))
    error = (said - was).abs().sum().item() / len(sure)
    few = counts.clamp(min=1)
    return Reliability(tuple(counts.tolist()), tuple((said / few).tolist()), tuple((was / few).tolist()), error)


class _UpTo(nn.Module):
    """`model` up to one exit, the exits on the way computed too."""

    def __init__(self, model: EarlyExitViT, place: int):
        super().__init__()
        self.model, self.place = model, place

    def forward(self, inputs: Tensor) -> Tensor:
        return next(logits for place, logits in enumerate(self.model.each(inputs)) if place == self.place)


@plain_numbers
def exit_macs(model: EarlyExitViT, input_size: tuple[int, int,
                                                     int] = (3, 224, 224)) -> tuple[int, ...]:
    """MACs of one picture (channels, height, width) that leaves at each exit; the end, with all
    exits, comes last.
    """
    model = require_exits("exit_macs", model)
    return tuple(count(_UpTo(model, place), input_size).macs for place in range(len(model.exits) + 1))


def require_pictures(caller: str, model: nn.Module, data: Pictures,
                     batch_size: int) -> EarlyExitViT:
    """`model` without torch's wrappers. Raises LabError, in the name of `caller`, unless it has
    exits to run pictures.
    """
    model = require_exits(caller, model)
    require_range(caller, "batch_size", batch_size, 1)
    if len(data) == 0:
        raise LabError(f"{caller}: 0 pictures say nothing; give at least one")
    return model
