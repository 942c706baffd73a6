"""What a call left behind: tensors on the device, weights that can learn no more, changed flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OF_TORCH = vars(nn.Module())  # names of what every module has


def tensors(value: Any, name: str = "", depth: int = 6) -> Iterator[tuple[str, Tensor]]:
    """All tensors in `value`, with the way to each.

    In modules, containers and the fields of objects of the library; in a module also those that it
    keeps as plain attributes, such as what its last forward pass chose.
    """
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from (
            (f"{name}.{part}", tensor)
            for part, tensor in [*value.named_parameters(), *value.named_buffers()]
        )
        for part, module in value.named_modules():
            kept = {
                key: item
                for key, item in vars(module).items()
                if key not in OF_TORCH and not isinstance(item, nn.Module)
            }
            for key, item in kept.items() if depth > 2 else ():
                yield from tensors(item, f"{name}.{part}.{key}".replace("..", "."), 2)
    elif depth and isinstance(value, (list, tuple, set)):
        for position, item in enumerate(value):
            yield from tensors(item, f"{name}[{position}]", depth - 1)
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{name}[{key!r}]", depth - 1)
    elif depth and (
        dataclasses.is_dataclass(value) or type(value).__module__.startswith("lightvit_lab")
    ):
        for key, item in getattr(value, "__dict__", {}).items():
            yield from tensors(item, f"{name}.{key}", depth - 1)


def faults(namespace: Mapping[str, Any]) -> list[str]:
    """One line for each name with something on the device, or a weight made in inference mode."""
    found = []
    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        for place, tensor in tensors(value, name):
            if tensor.device.type not in ("cpu", "meta"):
                found.append(f"{place} is on {tensor.device}")
                break
            if isinstance(tensor, nn.Parameter) and tensor.is_inference():
                found.append(f"{place} became an inference tensor")
                break
    return found


@dataclasses.dataclass
class State:
    """How a model is before a call, which may not change it; a training may, in part."""

    modes: dict[str, bool]
    learns: dict[str, bool]
    gradients: dict[str, Tensor | None]
    values: dict[str, Tensor]
    hooks: dict[str, int]
    parameters: dict[str, int]
    plans: str

    @classmethod
    def of(cls, model: nn.Module) -> State:
        """The state of `model` now."""
        return cls(
            {name: part.training for name, part in model.named_modules()},
            {name: value.requires_grad for name, value in model.named_parameters()},
            {name: value.grad for name, value in model.named_parameters()},
            {
                name: value.detach().clone()
                for name, value in (*model.named_parameters(), *model.named_buffers())
            },
            {name: hooks_of(part) for name, part in model.named_modules()},
            {name: id(value) for name, value in model.named_parameters()},
            repr([getattr(model, name, None) for name in ("recipe", "plan", "plans")]),
        )

    def differs(self, model: nn.Module, trained: bool) -> list[str]:
        """One line for each thing that is not as it was.

        A training may change values, and ends in eval mode.
        """
        now, found = State.of(model), []
        if trained:
            found += ["is left in train mode"] if any(now.modes.values()) else []
        else:
            found += [
                f"{name or 'the model'}.training is {now.modes.get(name)}"
                for name in self.modes
                if now.modes.get(name) != self.modes[name]
            ][:1]
            found += [
                f"{name} has another value"
                for name, value in self.values.items()
                if name not in now.values or not torch.equal(value.cpu(), now.values[name].cpu())
            ][:1]
            found += [
                f"{name}.grad is left"
                for name, value in now.gradients.items()
                if value is not self.gradients.get(name)
            ][:1]
        found += [
            f"{name}.requires_grad is {now.learns.get(name)}"
            for name in self.learns
            if now.learns.get(name) != self.learns[name]
        ][:1]
        found += [
            f"{name} has {now.hooks.get(name)} hooks"
            for name in self.hooks
            if now.hooks.get(name) != self.hooks[name]
        ][:1]
        found += [
            f"{name} is another parameter"
            for name in self.parameters
            if now.parameters.get(name) != self.parameters[name]
        ][:1]
        return found + ([f"its recipe is {now.plans}"] if now.plans != self.plans else [])


def hooks_of(module: nn.Module) -> int:
    """How many forward and backward hooks hang on it."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for kind in kinds)


def settings() -> dict[str, Any]:
    """What torch keeps for all: threads, recording of gradients, type of new tensors, autocast."""
    return {
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "type": torch.get_default_dtype(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("lab")),
    }
