"""What a meter (a clock, a counter) advances during a forward pass, split among the modules that it
passes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..runtime.hooks import Hook, hooked


@contextmanager
def splitting(model: nn.Module, read: Callable[[], float]) -> Iterator[dict[str, float]]:
    """A dict that fills with each module's own share of what `read()` advances: its own less its
    children's, by name.

    A child is whatever runs inside a module's call, so that modules in several places and calls
    that reach past a module are split right. What the hooks themselves take belongs to no one. They
    are removed at the end.
    """
    own: dict[str, float] = defaultdict(float)
    nested = _Nested(read, own)
    with hooked(hook for name, module in model.named_modules() for hook in (
            # The last before and the first after the module's own work, so that hooks of others are
            # left out.
            Hook(module, "input", nested.enter), Hook(module, "output", nested.leave(name), first=True))):
        yield own


class _Nested:
    """The calls that are under way, each with the reading at its start and what its children have
    taken.
    """

    def __init__(self, read: Callable[[], float], own: dict[str, float]):
        self.read, self.own = read, own
        # reading before the hook, reading after it, taken by children
        self.calls: list[list[float]] = []

    def enter(self, *_: Any) -> None:
        """A hook for the start of a module's call."""
        self.calls.append([self.read(), 0.0, 0.0])
        self.calls[-1][1] = self.read()

    def leave(self, name: str) -> Callable[..., None]:
        """A hook for the end of the call of the module `name`."""
        def hook(*_: Any) -> None:
            now = self.read()
            before, start, inside = self.calls.pop()
            self.own[name] += now - start - inside
            if self.calls:
                self.calls[-1][2] += self.read() - before
        return hook
