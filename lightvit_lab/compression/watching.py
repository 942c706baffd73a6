"""What runs through some modules of a model on calibration pictures: sizes, and values times gradients of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import LabError

Watched = Mapping[str, tuple[nn.Module, str]]      # name -> module, and "input", "output" or "change" (output - input)
FEW = 16     # pictures at once; what is kept for the gradients of more would not fit a small machine


@contextmanager
def seeing(model: nn.Module, watched: Watched) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Name -> (tensor of the graph, value), renewed by every forward; the model is in eval mode meanwhile."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str, side: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
            graph = arguments[0] if side == "input" else output
            seen[name] = (graph, output - arguments[0] if side == "change" else graph)
        return hook

    handles = [module.register_forward_hook(watch(name, side)) for name, (module, side) in watched.items()]
    was_training = model.training
    try:
        yield (model.eval(), seen)[1]
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def products(model: nn.Module, watched: Watched, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Name -> (pictures, n): the sum over a picture's tokens of value times gradient of the picture's cross entropy."""
    found: dict[str, list[Tensor]] = {name: [] for name in watched}
    with seeing(model, watched) as seen, torch.inference_mode(False), torch.enable_grad():
        place = next(model.parameters()).device
        for images, answers in zip(inputs.split(FEW), labels.split(FEW)):
            images = images.clone().to(place).requires_grad_()     # gradients, though all weights may be frozen
            logits = model(images)
            _require_classes(labels, logits.shape[1])
            loss = F.cross_entropy(logits, answers.to(place), reduction="sum")
            names = list(watched)
            gradients = torch.autograd.grad(loss, [seen[name][0] for name in names])
            for name, gradient in zip(names, gradients):
                value = (seen[name][1] * gradient).detach()
                found[name].append(value.flatten(1, -2).sum(1).cpu() if value.dim() > 2 else value.cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def sizes(model: nn.Module, watched: Watched, inputs: Tensor) -> dict[str, Tensor]:
    """Name -> (n,) mean over tokens of |value|; of a "change", () mean of its norm over that of the input."""
    total: dict[str, Tensor] = {}
    with seeing(model, watched) as seen:
        place = next(model.parameters()).device
        for images in inputs.split(FEW):
            model(images.to(place))
            for name, (_, side) in watched.items():
                result, value = seen[name]
                if side == "change":
                    share = value.norm(dim=-1) / (result - value).norm(dim=-1)
                    new = share.mean() * len(images)
                else:
                    new = value.abs().flatten(0, -2).mean(0) * len(images)
                total[name] = total.get(name, 0) + new
    return {name: value / len(inputs) for name, value in total.items()}


def _require_classes(labels: Tensor, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise LabError(f"pruning: labels of the calibration run from {labels.min()} to {labels.max()}, and the model "
                       f"knows {classes} classes; give labels of the set that the model was trained on")
