"""Recipes: what a file says a model is made of, checked as the word of a stranger before anything
is made of it.

A recipe is {"name", "arguments"} of `models.create_model` and, if the model was transformed,
"plans". Names select from fixed tables, never a module; arguments and plans are plain data; a trial
on torch's meta device, where tensors have shapes and no memory, shows whether what the recipe makes
has the names and shapes of the tensors at hand.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registering

from .. import compression, dynamic, models
from ..errors import LabError, require_choice
from ..models.transforming import TRANSFORMS
from ..runtime import import_all
from ..storage import parse_json

for _package in (compression, dynamic):      # whose files register what a plan may name
    import_all(_package)
OPEN_FILES = ("pretrained", "checkpoint", "cache_dir", "device", "dtype", "model_cfg", "model_cls", "feature_cfg",
              # beginnings of arguments by which timm fetches, reads files, or leaves meta
              "kwargs_filter")
# of any number; of an argument that is a size in pixels or tokens
LARGEST_NUMBER, LARGEST_SIZE = 2**16, 2**10
MOST_ENTRIES, DEEPEST, LONGEST_TEXT = 2**16, 10, 200
PARTS = {"name": (str, LONGEST_TEXT), "arguments": (dict, 64), "plans": (list, 64)}    # the longest
# a base may be so many times its file, or so large at least
SPARE, LEAST_NUMBERS, LEAST_PARTS = 64, 2**25, 2**14
SHOWN = 3                                        # tensors named in an error


def parse(text: str) -> dict[str, Any]:
    """The recipe in `text`, of known form and within bounds. Raises LabError, or what `json`
    raises, on any other.
    """
    recipe = parse_json(text)
    if not isinstance(recipe, dict) or not {"name", "arguments"} <= recipe.keys() <= PARTS.keys():
        raise LabError('its recipe is no {"name", "arguments", "plans"}')
    for part, (kind, most) in PARTS.items():
        value = recipe.get(part, kind())
        if not isinstance(value, kind) or len(value) > most:
            raise LabError(f"{part!r} of its recipe is no {kind.__name__} of a length up to {most}")
    for value in _within(recipe):
        _require_small(value)
    for name, value in recipe["arguments"].items():
        _require_argument(name, value)
    for plan in recipe.get("plans", []):
        name = plan.get("transform") if isinstance(plan, dict) else plan
        require_choice("its recipe", "transform", name, TRANSFORMS)
    return recipe


def rebuild(recipe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model of a parsed `recipe`, in eval mode, with `tensors` strictly loaded; memory as for a
    few such models.

    Raises LabError unless the recipe makes a model of just these names and shapes.
    """
    require_fit(recipe, tensors)
    model = _make(recipe)
    model.load_state_dict(tensors)
    return model.eval()


def require_fit(recipe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise LabError unless the names and shapes of `tensors` are those of the model that `recipe`
    makes.
    """
    with torch.device("meta"), _bounded(tensors):
        needed = _make(recipe).state_dict()
    faults = [f"{name} is missing" for name in needed if name not in tensors]
    faults += [f"{name[:80]} is not known" for name in tensors if name not in needed]
    for name in [name for name in needed if name in tensors]:
        given, asked = tensors[name], needed[name]
        if given.shape != asked.shape or given.is_floating_point() != asked.is_floating_point():
            faults.append(f"{name} is {_kind(given)} instead of {_kind(asked)}")
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise LabError(f"the tensors are not those of {_title(recipe)}: {'; '.join(faults[:SHOWN])}{more}")


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
        reason = str(error).splitlines()[0][:160] if str(error) else ""
        raise LabError(f"{_title(recipe)} cannot be made ({type(error).__name__}: {reason})") from error
    model.recipe = copy.deepcopy(dict(recipe))
    return model


def _title(recipe: Mapping[str, Any]) -> str:
    plans = [plan["transform"] for plan in recipe.get("plans", [])]
    return " with ".join([recipe["name"], *([", ".join(plans)] if plans else [])])


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


@contextmanager
def _bounded(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """While this lasts, modules of this thread that register more than is in proportion to
    `tensors` raise LabError.
    """
    numbers = max(SPARE * sum(value.numel() for value in tensors.values()), LEAST_NUMBERS)
    parts = max(SPARE * len(tensors), LEAST_PARTS)
    left, thread = {"numbers": numbers, "parts": parts}, threading.get_ident()

    def count(module: nn.Module, name: str, value: Any) -> None:
        if threading.get_ident() != thread:
            return
        left["parts"] -= 1
        left["numbers"] -= value.numel() if isinstance(value, Tensor) else 0
        if min(left.values()) < 0:
            raise LabError(f"its recipe makes a model of more than {numbers:,} numbers or {parts:,} parts, out of "
                           f"proportion to the {len(tensors)} tensors in it")

    with ExitStack() as hooks:
        for register in (registering.register_module_parameter_registration_hook,
                         registering.register_module_buffer_registration_hook,
                         registering.register_module_module_registration_hook):
            hooks.enter_context(register(count))
        yield


def _within(value: Any, depth: int = 0) -> Iterator[Any]:
    """`value` and all that its lists and dicts hold, keys too. Raises LabError beyond DEEPEST."""
    if depth > DEEPEST:
        raise LabError(f"its recipe is nested more than {DEEPEST} deep")
    yield value
    if isinstance(value, list | dict):
        for entry in [*value, *(value.values() if isinstance(value, dict) else [])]:
            yield from _within(entry, depth + 1)


def _require_small(value: Any) -> None:
    """Raise LabError on a long list or text, or a large number."""
    if isinstance(value, list | dict) and len(value) > MOST_ENTRIES:
        raise LabError(f"its recipe has a list of {len(value):,} entries, more than {MOST_ENTRIES:,}")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise LabError(f"its recipe has a text of {len(value):,} letters, {value[:20]!r}...")
    if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
        raise LabError(f"its recipe has a number beyond {LARGEST_NUMBER:,}")


def _require_argument(name: str, value: Any) -> None:
    """Raise LabError on an argument that opens files, and on a large size."""
    if name.startswith(OPEN_FILES):
        raise LabError(f"its recipe has the argument {name!r}, by which models fetch or read what is not in a file")
    numbers = (number for number in _within(value) if isinstance(number, int | float))
    if "size" in name and any(abs(number) > LARGEST_SIZE for number in numbers):
        raise LabError(f"its recipe has {name}={str(value)[:80]}, more than {LARGEST_SIZE}")
