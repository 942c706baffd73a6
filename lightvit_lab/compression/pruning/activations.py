"""Inputs and outputs of modules on calibration pictures: sizes, spreads, values times gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, require_logits
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, double, on_device

# name -> module, and "input", "output" or "change" (output - input)
Sides = Mapping[str, tuple[nn.Module, str]]
# pictures at once; activations of more, for gradients, would not fit a small machine
FEW = 16


@contextmanager
def record_activations(model: nn.Module, sides: Sides, grad: bool = False
                       ) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Name -> (tensor of the graph, value) of the modules in `sides`, renewed by every forward.

    Meanwhile the model is in eval mode on `runtime.device()`, without autocast, and with gradients
    if `grad`.
    """
    recorded: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str, side: str, _module: nn.Module, arguments: tuple, _keywords: dict,
               output: Tensor) -> None:
        graph = arguments[0] if side == "input" else output
        recorded[name] = (graph, output - arguments[0] if side == "change" else graph)

    hooks = [Hook(module, "output", partial(record, name, side))
             for name, (module, side) in sides.items()]
    with on_device(model, grad=grad, precision="float32"), hooked(hooks):
        yield recorded


def products(model: nn.Module, sides: Sides, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Name -> (pictures, n): sum over a picture's tokens of value times gradient of its loss.

    The loss is the cross entropy. On the CPU; no `.grad` is left anywhere.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in sides}
    with record_activations(model, sides, grad=True) as recorded:
        for images, answers in zip(inputs.split(FEW), labels.split(FEW)):
            images = as_input(model, images).detach().clone()
            logits = model(images.requires_grad_())     # all weights may be frozen
            _require_classes(labels, require_logits("pruning", model, logits).shape[1])
            loss = F.cross_entropy(logits, answers.to(logits.device), reduction="sum")
            gradients = torch.autograd.grad(loss, [recorded[name][0] for name in sides])
            for name, gradient in zip(sides, gradients):
                value = (recorded[name][1].float() * gradient.float()).detach()
                value = value.flatten(1, -2).sum(1) if value.dim() > 2 else value
                found[name].append(value.cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def sizes(model: nn.Module, sides: Sides, inputs: Tensor) -> dict[str, Tensor]:
    """Name -> (n,) mean over tokens of |value|, on the CPU.

    Of a "change" it is () the mean of its norm over the input's norm.
    """
    total = dict.fromkeys(sides, 0)
    with record_activations(model, sides) as recorded:
        for images in inputs.split(FEW):
            model(as_input(model, images))
            for name, (_, side) in sides.items():
                result, value = (part.float() for part in recorded[name])
                if side == "change":
                    mean = (value.norm(dim=-1) / (result - value).norm(dim=-1)).mean()
                else:
                    mean = value.abs().flatten(0, -2).mean(0)
                total[name] = total[name] + mean * len(images)
    return {name: value.cpu() / len(inputs) for name, value in total.items()}


def spreads(model: nn.Module, sides: Sides, inputs: Tensor) -> dict[str, Tensor]:
    """Name -> (n,) standard deviation of a value over all tokens, in float64 on the CPU."""
    sums: dict[str, Tensor] = dict.fromkeys(sides, 0)
    squares, counts = dict(sums), dict(sums)
    with record_activations(model, sides) as recorded:
        for images in inputs.split(FEW):
            model(as_input(model, images))
            for name in sides:
                value = double(recorded[name][1]).flatten(0, -2)
                sums[name] = sums[name] + value.sum(0).cpu()
                squares[name] = squares[name] + value.square().sum(0).cpu()
                counts[name] += len(value)
    return {name: (squares[name] / count - (sums[name] / count).square()).clamp(min=0).sqrt()
            for name, count in counts.items()}


def _require_classes(labels: Tensor, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise LabError(f"pruning: labels run from {labels.min()} to {labels.max()}, and the model "
                       f"knows {classes} classes; give labels of the set that it was trained on")
