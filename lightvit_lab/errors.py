"""The one error class of the library, and the checks that raise it at public entry points."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any


class LabError(ValueError):
    """What is wrong, the value given, the values allowed, and the call that mends it."""


def require_choice(caller: str, argument: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise LabError, with the closest allowed name suggested, unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value in allowed:
        return
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    raise LabError(f"{caller}: {argument}={value!r} is unknown.{hint} Give one of: {shown}")


def require_range(caller: str, argument: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Raise LabError unless `value` is a number with low <= value <= high."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        limit = f"{low} <= {argument}" + (f" <= {high}" if high != float("inf") else "")
        raise LabError(f"{caller}: {argument}={value!r}; give a number with {limit}")


def require_multiple(caller: str, argument: str, value: int, divisor: int, why: str) -> None:
    """Raise LabError unless `value` is a positive multiple of `divisor`, naming the nearest values that are."""
    require_range(caller, argument, value, 1)
    if value % divisor:
        below, above = value // divisor * divisor, (value // divisor + 1) * divisor
        near = f"{above}" if below == 0 else f"{below} or {above}"
        raise LabError(f"{caller}: {argument}={value} is no multiple of {divisor} ({why}); give {near}")


def require_grid(caller: str, tokens: int, prefix: int, grid: Sequence[int] | None = None) -> tuple[int, int]:
    """(rows, columns) of the patches among `tokens`, of which the first `prefix` are none; `grid` None is a square.

    Raises LabError unless the patches form that grid.
    """
    require_range(caller, "prefix", prefix, 0, tokens - 1)
    rows, columns = (math.isqrt(tokens - prefix),) * 2 if grid is None else grid
    require_range(caller, "grid's rows", rows, 1)
    if rows * columns != tokens - prefix:
        formed = "no square" if grid is None else f"no grid of {rows} x {columns}"
        raise LabError(f"{caller}: {tokens} tokens, {prefix} of them in front, form {formed}; give grid=(rows, columns), or "
                       "another prefix")
    return rows, columns


def require_images(caller: str, images: Any, channels: int | None = None, size: int | None = None) -> None:
    """Raise LabError unless `images` is a float tensor (batch, channels, height, width) as asked.

    The model's own `size` is both height and width, in pixels; None means any.
    """
    shape: Sequence[int] | None = getattr(images, "shape", None)
    if shape is None or not hasattr(type(images), "is_floating_point"):
        raise LabError(f"{caller}: expected a torch tensor of images, got {type(images).__name__}; "
                       "torch.as_tensor(array) makes one")
    if len(shape) != 4:
        mend = "; add the batch with images[None]" if len(shape) == 3 else ""
        raise LabError(f"{caller}: images have shape {tuple(shape)}; give (batch, channels, height, width){mend}")
    if not images.is_floating_point():
        raise LabError(f"{caller}: images are {images.dtype}; give floating point, "
                       "images.float() / 255 for bytes, then (images - mean) / std")
    if channels is not None and shape[1] != channels:
        layout = "; images.permute(0, 3, 1, 2) puts channels second" if shape[-1] == channels else (
            "; images.expand(-1, 3, -1, -1) makes grey pictures colour" if shape[1] == 1 and channels == 3 else "")
        raise LabError(f"{caller}: images have {shape[1]} channels, the model takes {channels}{layout}")
    if size is not None and tuple(shape[2:]) != (size, size):
        raise LabError(f"{caller}: images are {shape[2]} x {shape[3]} pixels, the model takes {size} x {size}; "
                       f"resize them, or build the model with image_size={shape[2]}")
