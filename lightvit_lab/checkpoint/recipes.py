"""Recipes: what a file says a model is made of, checked before anything is made of it.

A recipe is {"name", "arguments"} of `models.create_model` and, if the model was transformed,
"plans". Names select from fixed tables, never a module; arguments and plans are plain data; a trial
on torch's meta device, where tensors have shapes and no memory, shows whether what the recipe makes
has the names and shapes of the tensors at hand.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registering

from .. import compression, dynamic, models
from ..errors import LabError, require_choice
from ..models.transforming import TRANSFORMS
from ..runtime import import_all
from ..storage import first_line, parse_json

for _package in (compression, dynamic):      # whose files register what a plan may name
    import_all(_package)
# beginnings of arguments by which timm fetches, reads files, or leaves meta
OPEN_FILES = ("pretrained", "checkpoint", "cache_dir", "device", "dtype", "model_cfg", "model_cls",
              "feature_cfg", "kwargs_filter")
# limits: a number of any kind; an argument that is a size in pixels or tokens
LARGEST_NUMBER, LARGEST_SIZE = 2**16, 2**10
MOST_ENTRIES, DEEPEST, LONGEST_TEXT = 2**16, 10, 200
PARTS = {"name": (str, LONGEST_TEXT), "arguments": (dict, 64), "plans": (list, 64)}    # the longest
# a model may be so many times its file, or so large at least
SPARE, LEAST_NUMBERS, LEAST_PARTS = 64, 2**25, 2**14
LISTED = 4                                        # tensors of each fault named in an error


def parse(text: str) -> dict[str, Any]:
    """The recipe in `text`, of known form and within bounds.

    Raises LabError, or what `parse_json` raises, on any other.
    """
    recipe = parse_json(text)
    if not isinstance(recipe, dict) or not {"name", "arguments"} <= recipe.keys() <= PARTS.keys():
        raise LabError('its recipe is no {"name", "arguments", "plans"}')
    for part, (kind, most) in PARTS.items():
        value = recipe.get(part, kind())
        if not isinstance(value, kind) or len(value) > most:
            raise LabError(f"{part!r} of its recipe is no {kind.__name__} of a length up to {most}")
    _require_small(recipe)
    for name, value in recipe["arguments"].items():
        if name.startswith(OPEN_FILES):
            raise LabError(f"its recipe has the argument {name!r}, by which models fetch or read "
                           "files")
        if "size" in name:
            _require_small(value, LARGEST_SIZE)
    for plan in recipe.get("plans", []):
        name = plan.get("transform") if isinstance(plan, dict) else plan
        require_choice("its recipe", "transform", name, TRANSFORMS)
    return recipe


def rebuild(recipe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model of a parsed `recipe`, in eval mode, with `tensors` strictly loaded.

    Raises LabError, before it takes memory for the model, unless names and shapes fit.
    """
    require_fit(recipe, tensors)
    model = _make(recipe)
    model.load_state_dict(tensors)
    return model.eval()


def require_fit(recipe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise LabError unless names and shapes of `tensors` are those of the recipe's model."""
    with torch.device("meta"), _bounded(tensors):
        needed = _make(recipe).state_dict()
    if faults := misfit(needed, tensors):
        raise LabError(f"the tensors are not those of {_title(recipe)}: {faults}")


def misfit(needed: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How names and shapes of the `given` tensors differ from the `needed`; "" if they do not."""
    kinds = [(name, _kind(given[name]), _kind(needed[name])) for name in needed if name in given]
    faults = {"missing": [name for name in needed if name not in given],
              "unexpected": [name for name in given if name not in needed],
              "of another shape": [f"{name} {one} instead of {other}"
                                   for name, one, other in kinds if one != other]}
    found = [f"{len(names)} {fault}: {some(names)}" for fault, names in faults.items() if names]
    return "; ".join(found)


def _kind(value: Tensor) -> str:
    return f"{'floats' if value.is_floating_point() else 'integers'} {tuple(value.shape)}"


def some(names: Iterable[Any]) -> str:
    """The first names, for an error, and how many more there are."""
    names = [str(name)[:120] for name in names]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more or "nothing in it"


@torch.inference_mode(False)      # weights made inside of it could never be trained
def _make(recipe: Mapping[str, Any]) -> nn.Module:
    """The model of `recipe`, its weights fresh. Raises LabError whatever stands in the way."""
    try:
        model = models.create_model(recipe["name"], **recipe["arguments"])
        for plan in recipe.get("plans", []):
            model = TRANSFORMS[plan["transform"]](model, plan)
    except LabError:
        raise
    except Exception as error:      # what timm, torch and a plan's lists raise is of a dozen kinds
        raise LabError(f"{_title(recipe)} cannot be made ({first_line(error)})") from error
    model.recipe = copy.deepcopy(dict(recipe))
    return model


def _title(recipe: Mapping[str, Any]) -> str:
    plans = [plan["transform"] for plan in recipe.get("plans", [])]
    return " with ".join([recipe["name"], *([", ".join(plans)] if plans else [])])


@contextmanager
def _bounded(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Modules that this thread makes meanwhile raise LabError if out of proportion to `tensors`."""
    numbers = max(SPARE * sum(value.numel() for value in tensors.values()), LEAST_NUMBERS)
    parts = max(SPARE * len(tensors), LEAST_PARTS)
    budget, thread = {"numbers": numbers, "parts": parts}, threading.get_ident()

    def count(module: nn.Module, name: str, value: Any) -> None:
        if threading.get_ident() != thread:
            return
        budget["parts"] -= 1
        budget["numbers"] -= value.numel() if isinstance(value, Tensor) else 0
        if min(budget.values()) < 0:
            raise LabError(f"its recipe makes more than {numbers:,} numbers or {parts:,} parts, "
                           f"out of proportion to its {len(tensors)} tensors")

    with ExitStack() as hooks:
        for register in (registering.register_module_parameter_registration_hook,
                         registering.register_module_buffer_registration_hook,
                         registering.register_module_module_registration_hook):
            hooks.enter_context(register(count))
        yield


def _require_small(value: Any, most: int = LARGEST_NUMBER, depth: int = 0) -> None:
    """Raise LabError on a long list or text, a number beyond `most`, and deep nesting."""
    if depth > DEEPEST:
        raise LabError(f"its recipe is nested more than {DEEPEST} deep")
    if isinstance(value, list | dict) and len(value) > MOST_ENTRIES:
        raise LabError(f"its recipe has a list of {len(value):,} entries, beyond {MOST_ENTRIES:,}")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise LabError(f"its recipe has a text of {len(value):,} letters, {value[:20]!r}...")
    if isinstance(value, int | float) and abs(value) > most:
        raise LabError(f"its recipe has the number {value}, beyond {most:,}")
    if isinstance(value, list | dict):
        for entry in (*value, *(value.values() if isinstance(value, dict) else ())):
            _require_small(entry, most, depth + 1)
