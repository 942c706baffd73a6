"""What a meter (a clock, a counter) advances in a forward pass, split among the model's modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..runtime.hooks import Hook, hooked


@contextmanager
def splitting(model: nn.Module, read: Callable[[], float]) -> Iterator[dict[str, float]]:
    """A dict that fills, by name, with what `read()` advances in each module less its children.

    A child is whatever runs inside a module's call, so that modules in several places and calls
    that reach past a module are split right. What the hooks themselves take belongs to no one. They
    are removed at the end.
    """
    own: dict[str, float] = defaultdict(float)
    # Of each call under way: the reading before its first hook and after it, and its children's.
    calls: list[list[float]] = []

    def enter(*_: Any) -> None:
        calls.append([read(), 0.0, 0.0])
        calls[-1][1] = read()

    def leave(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            now = read()
            before, start, children = calls.pop()
            own[name] += now - start - children
            if calls:
                calls[-1][2] += read() - before
        return hook

    # The last before and the first after the module's own work, so that others' hooks are left out.
    with hooked(hook for name, module in model.named_modules()
                for hook in (Hook(module, "input", enter),
                             Hook(module, "output", leave(name), first=True))):
        yield own
