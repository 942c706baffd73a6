"""Transforms: functions model -> new model that the new model remembers, as plans in its recipe.

A transform is made of two halves. One looks at the model, and at data if it needs any, and writes down what is to be
done: the plan, a dict that JSON holds. The other, `apply(model, plan)`, does it to a copy and looks at no data; it may
change weights, but the shapes follow from the plan alone. So `checkpoint.load` repeats `apply` on a fresh model and then
fills in the weights that were saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Plan = dict[str, Any]
Apply = Callable[[nn.Module, Plan], nn.Module]


@torch.inference_mode(False)      # what is made inside of it could never be trained
def transformed(model: nn.Module, plan: Plan, apply: Apply) -> nn.Module:
    """A copy of `model`, in eval mode, that `apply` changed by `plan`; `model` is left untouched.

    Where `model` has a recipe (`create_model` gives it one), the copy's has `plan` added to its plans, all lists its own.
    """
    changed = apply(copy.deepcopy(model), copy.deepcopy(plan)).eval()
    if (recipe := getattr(model, "recipe", None)) is not None:
        changed.recipe = copy.deepcopy({**recipe, "plans": [*recipe.get("plans", []), plan]})
    return changed


@torch.inference_mode(False)
def copied(model: nn.Module) -> nn.Module:
    """A copy of `model` that can be trained, also where `torch.inference_mode` is on."""
    return copy.deepcopy(model)
