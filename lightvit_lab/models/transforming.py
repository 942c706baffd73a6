"""Transforms: functions model -> new model that the new model remembers, as plans in its recipe.

A transform is made of two halves. One looks at the model, and at data if it needs any, and writes
down what is to be done: the plan, a dict that JSON holds. The other, `apply(model, plan)`, does it
to a copy and looks at no data; it may change weights, but the shapes follow from the plan alone. So
`checkpoint.load` repeats `apply` on a fresh model and then fills in the weights that were saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import LabError
from ..runtime.wrapped import require_unwrapped

# transforms that put other weights into a model's layers
REWRITING = ("prune", "prune_weights", "factorize")
Plan = dict[str, Any]
Apply = Callable[[nn.Module, Plan], nn.Module]
TRANSFORMS: dict[str, Apply] = {}       # what a plan may name; filled by `transform`


def transform(name: str) -> Callable[[Apply], Apply]:
    """Let plans name the decorated `apply(model, plan) -> model`.

    Raises LabError on a name that is taken.
    """
    def register(apply: Apply) -> Apply:
        if (other := TRANSFORMS.setdefault(name, apply)) is not apply:
            raise LabError(f"transform: {name!r} is {other.__module__}.{other.__name__} already; "
                           f"give {apply.__module__}.{apply.__name__} another name")
        return apply
    return register


@torch.inference_mode(False)      # what is made inside of it could never be trained
def transformed(model: nn.Module, plan: Plan, apply: Apply) -> nn.Module:
    """A copy of `model`, in eval mode, that `apply` changed by `plan`; `model` is left untouched.

    Raises LabError for a model inside a wrapper of torch's, and where `apply` would tear apart
    weights that parts share. Where `model` has a recipe (`create_model` gives it one), the copy's
    has `plan` added to its plans, all lists its own.
    """
    require_unwrapped(plan["transform"], model)
    if plan["transform"] in REWRITING:
        require_own_weights(plan["transform"], model)
    # a plan that chooses for each layer, or replaces, needs layers of its own
    if plan["transform"] == "factorize" or plan.get("part") in ("mlp", "heads", "head_width"):
        require_own_layers(plan["transform"], model)
    changed = apply(copy.deepcopy(model), copy.deepcopy(plan)).eval()
    if (recipe := getattr(model, "recipe", None)) is not None:
        changed.recipe = copy.deepcopy({**recipe, "plans": [*recipe.get("plans", []), plan]})
    return changed


@torch.inference_mode(False)
def copied(model: nn.Module) -> nn.Module:
    """A copy of `model` that can be trained, also where `torch.inference_mode` is on."""
    return copy.deepcopy(model)


def shared_weights(model: nn.Module, of_shared_modules: bool = False) -> list[tuple[str, ...]]:
    """Names of each weight that several modules have.

    of_shared_modules: also of one module that stands in several places, which else counts as one
    """
    names: dict[int, list[str]] = {}
    for prefix, module in model.named_modules(remove_duplicate=not of_shared_modules):
        for name, value in module.named_parameters(prefix, recurse=False):
            names.setdefault(id(value), []).append(name)
    return [tuple(group) for group in names.values() if len(group) > 1]


@transform("share_weights")     # added by `checkpoint.save`
def apply_sharing(model: nn.Module, plan: Plan) -> nn.Module:
    """Make one of the weights of each group in `plan`, in place.

    Plans are {"names": [["blocks.0.mlp.fc1.weight", ...]]}. Raises LabError on any other.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    groups = plan.get("names")
    for names in groups if isinstance(groups, list) else [groups]:
        listed = names if isinstance(names, list) else []
        weights = [known[name] for name in listed if isinstance(name, str) and name in known]
        shapes = {weight.shape for weight in weights}
        if len(shapes) != 1 or len(weights) < len(listed):
            raise LabError(f"share_weights: the plan has {str(names)[:80]}; give names of weights "
                           "of one shape")
        for name in names[1:]:
            module, _, own = name.rpartition(".")
            setattr(model.get_submodule(module), own, weights[0])
    return model


def require_own_weights(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, where two modules of `model` share a weight."""
    if shared := shared_weights(model):
        first, second, *_ = shared[0]
        raise LabError(f"{caller}: {second} is the same weight as {first}, and each needs its own; "
                       "share the whole module (blocks[1].mlp = blocks[0].mlp), or part them: "
                       "layer.weight = nn.Parameter(layer.weight.detach().clone())")


def require_own_layers(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, where two modules of `model` share a layer.

    A linear layer or convolution would be cut once for each of them, or replaced in one alone.
    Modules that are shared whole have it once.
    """
    first: dict[nn.Module, str] = {}
    for prefix, owner in model.named_modules():
        for leaf, layer in owner._modules.items():
            name = f"{prefix}.{leaf}".lstrip(".")
            if isinstance(layer, nn.Linear | nn.Conv2d) and first.setdefault(layer, name) != name:
                raise LabError(f"{caller}: {name} is the same layer as {first[layer]}, and is to "
                               "differ; share the whole module (blocks[1].mlp = blocks[0].mlp), or "
                               f"part them: parent.{leaf} = copy.deepcopy(layer)")
