"""The one error class of the library, and the checks that raise it at public entry points."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class LabError(ValueError):
    """What is wrong, the value given, the values allowed, and the call that mends it."""


def require_choice(caller: str, argument: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise LabError, with the closest name suggested, unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value in allowed:
        return
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    listed = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    raise LabError(f"{caller}: {argument}={value!r} is unknown.{hint} Give one of: {listed}")


def number(value: Any) -> int | float | None:
    """A number of any library (NumPy's, a tensor without axes) as Python's own.

    None if it is no number; True is none.
    """
    if type(value) is int or type(value) is float:
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def require_range(caller: str, argument: str, value: Any, low: float,
                  high: float = math.inf) -> int | float:
    """Check that `value` is finite and low <= `value` <= high; return it as Python's own number."""
    found = number(value)
    if found is None or not low <= found <= high or found == math.inf:
        limits = _limits(argument, low, high)
        raise LabError(f"{caller}: {argument}={value!r}; give a number{limits}")
    return found


def require_whole(caller: str, argument: str, value: Any, low: float = -math.inf,
                  high: float = math.inf) -> int:
    """`value`, a whole number of any type (10.0 is 10), as an int.

    Raises LabError unless low <= value <= high.
    """
    found = number(value)
    if found is None or found % 1 != 0:
        limits = _limits(argument, low, high)
        raise LabError(f"{caller}: {argument}={value!r}; give a whole number{limits}")
    return int(require_range(caller, argument, found, low, high))


def _limits(argument: str, low: float, high: float) -> str:
    if low == -math.inf:
        return ""
    return f" with {low} <= {argument}" + (f" <= {high}" if high != math.inf else "")


def plain_numbers(function: Callable[..., Any], caller: str | None = None) -> Callable[..., Any]:
    """Decorator of public functions: numbers of any type arrive as Python's own, which JSON holds.

    What is annotated as int, or as a sequence of int, is a whole number (10.0 is 10); LabError
    refuses any other. Of a class, it is its `__init__` that is decorated.
    """
    if isinstance(function, type):
        function.__init__ = plain_numbers(function.__init__, caller or function.__name__)
        return function
    caller = caller or function.__qualname__.removesuffix(".__init__")
    places = {name: place for place, name in enumerate(inspect.signature(function).parameters)}
    kinds = {name: kind.replace(" ", "").split("|")
             for name, kind in function.__annotations__.items()
             if name in places and isinstance(kind, str) and _SOME_NUMBER.search(kind)}

    @functools.wraps(function)
    def with_plain_numbers(*arguments: Any, **keywords: Any) -> Any:
        changed = list(arguments)
        for name, kind in kinds.items():
            if name in keywords:
                keywords[name] = _plain(caller, name, keywords[name], kind)
            elif places[name] < len(arguments):
                changed[places[name]] = _plain(caller, name, changed[places[name]], kind)
        return function(*changed, **keywords)

    return with_plain_numbers


_SOME_NUMBER = re.compile(r"\b(int|float)\b")
_SEVERAL = re.compile(r"(?:Sequence|tuple|list)\[(int|float)\b")


def _plain(caller: str, argument: str, value: Any, kinds: list[str]) -> Any:
    """One argument, annotated with `kinds`; unchanged where they do not say that it is a number."""
    if "Tensor" in kinds and hasattr(value, "requires_grad"):
        return value                            # it may have a gradient
    found = number(value)
    if found is not None and "float" in kinds:
        return found
    is_int = value is not None and set(kinds) <= {"int", "None"}
    if is_int or (found is not None and "int" in kinds):
        return require_whole(caller, argument, value)
    several = next(filter(None, map(_SEVERAL.match, kinds)), None)
    if several and (isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1):
        plain = [_plain(caller, f"{argument}[{place}]", one, [several[1]])
                 for place, one in enumerate(value)]
        return tuple(plain) if isinstance(value, tuple) else plain
    return value


def require_multiple(caller: str, argument: str, value: Any, divisor: int, why: str) -> int:
    """Check that `value` is a positive multiple, and return it as an int; LabError if not."""
    value = require_whole(caller, argument, value, 1)
    below = value - value % divisor
    if below == value:
        return value
    near = f"{below} or {below + divisor}" if below else divisor
    raise LabError(f"{caller}: {argument}={value} is no multiple of {divisor} ({why}); give {near}")


def require_size(caller: str, argument: str, value: Any, divisor: int = 1,
                 why: str = "") -> tuple[int, int]:
    """(height, width) of a picture, from a number for both sides or a pair.

    Raises LabError, naming the nearest that are, unless they are positive multiples of `divisor`.
    """
    if not isinstance(value, (list, tuple)):
        return (require_multiple(caller, argument, value, divisor, why),) * 2
    if len(value) != 2:
        raise LabError(f"{caller}: {argument}={tuple(value)} has {len(value)} numbers; "
                       "give one for both sides, or (height, width)")
    return tuple(require_multiple(caller, f"{argument}[{place}]", side, divisor, why)
                 for place, side in enumerate(value))


def both_sides(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size that is one number for both sides, or a pair."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def require_grid(caller: str, tokens: int, prefix: int,
                 grid: Sequence[int] | None = None) -> tuple[int, int]:
    """(rows, columns) of the patches that follow the first `prefix` of the tokens.

    `grid` None is a square. Raises LabError unless the patches form that grid.
    """
    prefix = require_whole(caller, "prefix", prefix, 0, tokens - 1)
    rows, columns = (math.isqrt(tokens - prefix),) * 2 if grid is None else grid
    rows = require_whole(caller, "grid's rows", rows, 1)
    columns = require_whole(caller, "grid's columns", columns, 1)
    if rows * columns != tokens - prefix:
        form = "square" if grid is None else f"grid of {rows} x {columns}"
        raise LabError(f"{caller}: {tokens} tokens, {prefix} of them in front, form no {form}; "
                       "give grid=(rows, columns), or another prefix")
    return rows, columns


def require_images(caller: str, images: Any, channels: int | None = None,
                   size: int | Sequence[int] | None = None) -> None:
    """Raise LabError unless `images` is a float tensor (batch, channels, height, width).

    `channels` and `size` (pixels: one number, or (height, width)) are the model's; None means any.
    """
    fault, shape = "", tuple(getattr(images, "shape", ()))
    if not hasattr(type(images), "is_floating_point"):
        fault = f"expected a torch tensor, got {type(images).__name__}; torch.as_tensor makes one"
    elif len(shape) != 4:
        fault = f"images have shape {shape}, not (batch, channels, height, width)"
        fault += "; add the batch with images[None]" if len(shape) == 3 else ""
    elif not images.is_floating_point():
        fault = (f"images are {images.dtype}; give floating point, images.float() / 255 for bytes, "
                 "then (images - mean) / std")
    elif channels is not None and shape[1] != channels:
        fault = f"images have {shape[1]} channels, the model takes {channels}"
        if shape[3] == channels:
            fault += "; images.permute(0, 3, 1, 2) puts channels second"
        elif (shape[1], channels) == (1, 3):
            fault += "; images.expand(-1, 3, -1, -1) makes grey pictures colour"
    elif size is not None and shape[2:] != both_sides(size):
        height, width = both_sides(size)
        own = shape[2] if shape[2] == shape[3] else shape[2:]
        fault = (f"images are {shape[2]} x {shape[3]} pixels, the model takes {height} x {width}; "
                 f"resize them, or build the model with image_size={own}")
    if fault:
        raise LabError(f"{caller}: {fault}")


def require_logits(caller: str, model: Any, logits: Any, labels: Any = None) -> Any:
    """`logits`, what `model` made of a batch: (batch, classes), for labels (N,) of these classes.

    Raises LabError otherwise, also for the features of a model without a head (num_classes=0).
    """
    name, shape = type(model).__name__, getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or _is_headless(model):
        made = f"a {type(logits).__name__}" if shape is None else str(tuple(shape))
        made += ", features without a head" if shape is not None and len(shape) == 2 else ""
        raise LabError(f"{caller}: {name} makes no logits (batch, classes), but {made}; create it "
                       "with one head: with num_classes=10 and without features_only")
    if labels is not None and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0:
            raise LabError(f"{caller}: the lowest label is {low}; labels count from 0")
        if high >= shape[1]:
            raise LabError(f"{caller}: labels run from {low} to {high}, and {name} makes "
                           f"{shape[1]} logits; create it with num_classes={high + 1}")
    return logits


def _is_headless(model: Any) -> bool:
    """Whether a model says that it has no classes (timm: num_classes=0), or no head (Identity)."""
    classes = getattr(model, "num_classes", None)
    if type(classes) is int and classes == 0:
        return True
    # elsewhere a head may have another name
    if not type(model).__module__.startswith(("timm.", "lightvit_lab.")):
        return False
    get_head = getattr(model, "get_classifier", lambda: getattr(model, "head", None))
    return type(get_head()).__name__ == "Identity"
