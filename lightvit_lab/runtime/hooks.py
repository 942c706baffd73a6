"""The one way to look into a forward: hooks that are gone at the end, and silent in a
recomputation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn


class Hook(NamedTuple):
    """Call `function` at each forward of `module`.

    side: "input", before the forward: function(module, arguments, keywords);
        "output", after it: function(module, arguments, keywords, output), which may return another
        output
    first: before the hooks of others that stand on the same side
    """

    module: nn.Module
    side: str
    function: Callable[..., Any]
    first: bool = False


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Place all `hooks`, and take them away at the end, also after an exception.

    Under gradient checkpointing the backward pass runs parts of the forward a second time, and may
    break off in the middle of a module. Hooks that only look are silent then: what they saw the
    first time is what the backward pass is about. Compiled parts run uncompiled meanwhile: what
    torch has compiled runs past hooks that were placed afterwards.
    """
    handles = []
    try:
        for hook in hooks:
            handles.append(_register(hook))
        with _nothing_compiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _nothing_compiled() -> AbstractContextManager:
    """While this lasts, what `torch.compile` and `model.compile()` made runs as it was written
    (from torch 2.6 on).
    """
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")


def _register(hook: Hook) -> Any:
    def look(*arguments: Any) -> Any:
        return None if in_backward() else hook.function(*arguments)

    if hook.side == "input":
        return hook.module.register_forward_pre_hook(look, with_kwargs=True, prepend=hook.first)
    return hook.module.register_forward_hook(look, with_kwargs=True, prepend=hook.first)


def in_backward() -> bool:
    """Whether a backward pass is under way in this thread, as while a checkpointed forward is
    recomputed.
    """
    return torch._C._current_graph_task_id() != -1
