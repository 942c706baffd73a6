"""Where each part of a model stands under the roof of its machine, and how much of a promised gain
arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from ..runtime import device_name
from ..runtime.running import float_dtype, on_device
from ..runtime.wrapped import unwrapped
from .counting import own_costs
from .peaks import Peaks, device_clock, machine_peaks
from .splitting import splitting

_WARM_UP = 2


@dataclass(frozen=True)
class Work:
    """What one module does itself on one batch, its children left out: MACs, bytes moved, time,
    beside the peaks.
    """

    name: str
    macs: int
    moved_bytes: int
    time_ms: float
    peaks: Peaks

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-accumulate is two."""
        return 2 * self.macs

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.moved_bytes

    @property
    def achieved_flops_s(self) -> float:
        """FLOP/s as measured."""
        return self.flops / self.time_ms * 1e3

    @property
    def attainable_flops_s(self) -> float:
        """FLOP/s that this intensity allows on this machine."""
        return self.peaks.attainable(self.intensity)

    @property
    def share(self) -> float:
        """Achieved of attainable; above 1 where the bytes come from a cache, which is faster than
        the copy was.
        """
        return self.achieved_flops_s / self.attainable_flops_s

    @property
    def limit(self) -> str:
        """What bounds it: "compute" or "memory"."""
        return "compute" if self.intensity >= self.peaks.ridge else "memory"


@dataclass(frozen=True)
class Roofline:
    """Modules with products of their own, in the model's order, and the whole, which is timed
    without hooks.

    other_ms: time of modules without products, and of modules' own work around their children
    slowdown: time with hooks by time without; far above 1, the modules' times are those of an
    idling device uncounted: operators that may multiply and have no formula, with their share of
    all bytes moved; empty is good machine: where and with how many threads it was timed
    """

    whole: Work
    modules: tuple[Work, ...]
    other_ms: float
    slowdown: float
    uncounted: dict[str, float]
    rounds: int
    machine: str

    @property
    def other_share(self) -> float:
        """Share of the time that goes to modules and parts without products."""
        return self.other_ms / (self.other_ms + sum(work.time_ms for work in self.modules))

    @plain_numbers
    def table(self, top: int | None = None) -> str:
        """All modules, or the `top` that take longest; then the whole, what is no product, and the
        peaks.
        """
        shown = self.modules if top is None else sorted(self.modules, key=lambda work: -work.time_ms)[:top]
        peaks = self.whole.peaks
        lines = [f"{'module':32} {'MMACs':>9} {'MiB':>8} {'FLOP/B':>7} {'ms':>8} {'GFLOP/s':>9} {'attainable':>10} "
                 f"{'share':>6}  limit"]
        lines += [_line(work.name or "(itself)", work) for work in shown] + [_line("whole", self.whole)]
        lines += [f"without products: {self.other_ms:.2f} ms, {self.other_share:.1%} of the time; "
                  f"hooks slow it down {self.slowdown:.2f} times",
                  f"peaks: {peaks.flops_s / 1e9:.1f} GFLOP/s, {peaks.bytes_s / 1e9:.1f} GB/s, {peaks.dtype}, threads: "
                  f"{peaks.threads}, {peaks.device}; timed: medians of {self.rounds} rounds, {self.machine}"]
        lines += [f"NOT counted: {name}, {share:.1%} of all bytes moved" for name, share in self.uncounted.items()]
        return "\n".join(lines)


def _line(name: str, work: Work) -> str:
    return (f"{name:32} {work.macs / 1e6:9,.1f} {work.moved_bytes / 2**20:8.2f} {work.intensity:7.1f} "
            f"{work.time_ms:8.3f} {work.achieved_flops_s / 1e9:9.1f} {work.attainable_flops_s / 1e9:10.1f} "
            f"{work.share:6.1%}  {work.limit}")


@plain_numbers
def roofline(model: nn.Module, inputs: Tensor, peaks: Peaks | None = None,
             rounds: int = 10) -> Roofline:
    """Time every module that has MACs of its own on the batch `inputs` and place it under the
    machine's roof.

    A module's MACs, bytes and time are its own, less its children's, so attention's products have a
    row beside its linear layers. Bytes are counted on the whole batch, operator by operator as
    eager PyTorch runs them: weights are read once, what belongs to an image as often as there are
    images. Times are medians of `rounds` by forward hooks that wait for the device; in turns with
    them, the whole is timed without any.

    `inputs` take the type of the weights; both go to `runtime.device()`. `peaks` are measured in
    that type if not given. A compiled model is timed as it runs uncompiled. Raises LabError on
    inputs that the model does not take, on a model without products, and on rounds below 1. Source:
    Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """
    _require_sense(inputs, peaks, rounds)
    model = unwrapped(model)
    costs = own_costs(model, inputs, "roofline")
    if not any(costs.macs.values()):
        raise LabError(f"roofline: {type(model).__name__} has no matrix products or convolutions (not counted: "
                       f"{sorted(costs.uncounted) or 'nothing'}); measure({{label: model}}, inputs) times any model")
    peaks = peaks or machine_peaks(float_dtype(model))
    plain, hooked, own = _times(model, inputs, rounds)
    modules = tuple(Work(name, costs.macs[name], costs.moved[name], own[name], peaks)
                    for name, _ in model.named_modules() if costs.macs.get(name))
    whole = Work("", sum(costs.macs.values()), sum(costs.moved.values()), plain, peaks)
    other_ms = sum(own.values()) - sum(work.time_ms for work in modules)
    return Roofline(whole, modules, other_ms, hooked / plain, costs.uncounted, rounds, device_name())


def _require_sense(inputs: Tensor, peaks: Peaks | None, rounds: int) -> None:
    require_range("roofline", "rounds", rounds, 1)
    if not isinstance(peaks, Peaks | None):
        raise LabError(f"roofline: peaks are {type(peaks).__name__}; give machine_peaks(), or nothing to measure them")
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        given = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise LabError(f"roofline: inputs are {given}; give a batch of floating-point numbers, "
                       "e.g. torch.rand(8, 3, 224, 224)")
    if inputs.numel() == 0:
        raise LabError(f"roofline: inputs of {tuple(inputs.shape)} hold nothing; give at least one image, "
                       "e.g. torch.rand(1, 3, 224, 224)")


def _times(model: nn.Module, inputs: Tensor,
           rounds: int) -> tuple[float, float, Mapping[str, float]]:
    """Milliseconds without hooks, with them, and of each module's own work with them."""
    plain, hooked, parts = [], [], []
    clock = device_clock()
    # in this order: weights move before
    with on_device(model) as place, torch.inference_mode():
        batch = inputs.to(place, float_dtype(model))
        for _ in range(_WARM_UP + rounds):
            plain.append(_seconds(model, batch, clock))
            with splitting(model, clock) as own:
                hooked.append(_seconds(model, batch, clock))
            parts.append(own)
    plain, hooked, parts = plain[_WARM_UP:], hooked[_WARM_UP:], parts[_WARM_UP:]
    names = dict.fromkeys(name for own in parts for name in own)
    own_ms = {name: 1e3 * median(own.get(name, 0.0) for own in parts) for name in names}
    return 1e3 * median(plain), 1e3 * median(hooked), own_ms


def _seconds(model: nn.Module, batch: Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    model(batch)
    return clock() - start


def realisation(time_gain: float, mac_gain: float) -> float:
    """Share of a promised gain that arrives: `time_gain` / `mac_gain`, each old by new; 1 is all of
    it.

    3.8 times fewer MACs that make a model 1.31 times faster realise 0.34. Where nothing arrives,
    `time_gain` is 1 and the share 1 / `mac_gain`, not 0. Raises LabError on gains that are no
    positive numbers.
    """
    for name, gain in (("time_gain", time_gain), ("mac_gain", mac_gain)):
        require_range("realisation", name, gain, 0)
        if gain == 0:
            raise LabError(f"realisation: {name}=0; a gain is old divided by new, 1 where nothing changes")
    return time_gain / mac_gain
