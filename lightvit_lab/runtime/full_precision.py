"""What promises float32 keeps it under autocast, which turns every product into half precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from .running import cast, float_dtype


def full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """A module's method that autocast does not reach.

    Its first argument, tokens, takes the type of the weights.
    """
    @wraps(method)
    def outside_autocast(self: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        if not arguments:                           # tokens came by their name, whatever it is
            name = next(iter(keywords))
            tokens = keywords[name] = keywords[name].to(float_dtype(self))
        else:
            tokens = arguments[0].to(float_dtype(self))
            arguments = (tokens, *arguments[1:])
        with cast("float32", tokens.device):
            return method(self, *arguments, **keywords)

    return outside_autocast
