"""Where each part of a model stands under the roof of its machine, and what arrives of a gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
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
    """What one module does on one batch, its children left out: MACs, bytes moved, time.

    `peaks` are those of the machine.
    """

    name: str
    macs: int
    moved_bytes: int
    time_ms: float
    peaks: Peaks

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved; a multiply-accumulate is two."""
        return 2 * self.macs / self.moved_bytes

    @property
    def achieved_flops_s(self) -> float:
        """FLOP/s as measured."""
        return 2 * self.macs / self.time_ms * 1e3

    @property
    def attainable_flops_s(self) -> float:
        """FLOP/s that this intensity allows on this machine."""
        return self.peaks.attainable(self.intensity)

    @property
    def share(self) -> float:
        """Achieved of attainable; above 1 where bytes come from a cache, faster than the copy."""
        return self.achieved_flops_s / self.attainable_flops_s

    @property
    def limit(self) -> str:
        """What bounds it: "compute" or "memory"."""
        return "compute" if self.intensity >= self.peaks.ridge else "memory"


@dataclass(frozen=True)
class Roofline:
    """Modules with products of their own, in the model's order; the whole is timed without hooks.

    other_ms: time of modules without products, and of modules' own work around their children.
    slowdown: time with hooks by time without; far above 1, modules' times are of an idle device.
    uncounted: operators that may multiply and have no formula, with their share of all bytes moved;
        empty is good.
    machine: where and with how many threads it was timed.
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
def roofline(model: nn.Module, inputs: Tensor, peaks: Peaks | None = None,
             rounds: int = 10) -> Roofline:
    """Time every module that has MACs of its own on the batch `inputs`, against the machine's roof.

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
        raise LabError(f"roofline: {type(model).__name__} has no matrix products or convolutions "
                       f"(not counted: {sorted(costs.uncounted) or 'nothing'}); "
                       "measure({label: model}, inputs) times any model")
    peaks = peaks or machine_peaks(float_dtype(model))
    plain, hooked, own = _times(model, inputs, rounds)
    modules = tuple(Work(name, costs.macs[name], costs.moved[name], own[name], peaks)
                    for name, _ in model.named_modules() if costs.macs.get(name))
    whole = Work("", sum(costs.macs.values()), sum(costs.moved.values()), plain, peaks)
    other_ms = sum(own.values()) - sum(work.time_ms for work in modules)
    return Roofline(whole, modules, other_ms, hooked / plain, costs.uncounted, rounds,
                    device_name())


def _require_sense(inputs: Tensor, peaks: Peaks | None, rounds: int) -> None:
    require_range("roofline", "rounds", rounds, 1)
    if not isinstance(peaks, Peaks | None):
        raise LabError(f"roofline: peaks are {type(peaks).__name__}; give machine_peaks(), or "
                       "nothing to measure them")
    kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
    if not getattr(kind, "is_floating_point", False):
        raise LabError(f"roofline: inputs are {kind}; give a batch of floating-point numbers, "
                       "e.g. torch.rand(8, 3, 224, 224)")
    if inputs.numel() == 0:
        raise LabError(f"roofline: inputs of {tuple(inputs.shape)} hold nothing; give at least one "
                       "image, e.g. torch.rand(1, 3, 224, 224)")


def _times(model: nn.Module, inputs: Tensor,
           rounds: int) -> tuple[float, float, Mapping[str, float]]:
    """Milliseconds without hooks, with them, and of each module's own work with them."""
    plain, hooked, parts, clock = [], [], [], device_clock()
    # In this order: weights move before inference mode.
    with on_device(model) as place, torch.inference_mode():
        batch = inputs.to(place, float_dtype(model))
        for _ in range(_WARM_UP + rounds):
            plain.append(_milliseconds(model, batch, clock))
            with splitting(model, clock) as own:
                hooked.append(_milliseconds(model, batch, clock))
            parts.append(own)
    own_ms = {}
    for name in dict.fromkeys(chain(*parts)):
        own_ms[name] = 1e3 * median(own.get(name, 0.0) for own in parts[_WARM_UP:])
    return median(plain[_WARM_UP:]), median(hooked[_WARM_UP:]), own_ms


def _milliseconds(model: nn.Module, batch: Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    model(batch)
    return 1e3 * (clock() - start)


def realisation(time_gain: float, mac_gain: float) -> float:
    """Share of a promised gain that arrives: `time_gain` / `mac_gain`, each old by new.

    3.8 times fewer MACs that make a model 1.31 times faster realise 0.34; 1 is all of the gain.
    Where nothing arrives, `time_gain` is 1 and the share 1 / `mac_gain`, not 0. Raises LabError on
    gains that are no positive numbers.
    """
    for name, gain in (("time_gain", time_gain), ("mac_gain", mac_gain)):
        if require_range("realisation", name, gain, 0) == 0:
            raise LabError(f"realisation: {name}=0; a gain is old divided by new, 1 where nothing "
                           "changes")
    return time_gain / mac_gain
