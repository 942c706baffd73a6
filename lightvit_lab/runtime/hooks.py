"""Hooks on the forward of modules, gone at the end: the only ones that the library places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
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
    break off in the middle of a module; hooks are silent then. Compiled parts run uncompiled
    meanwhile (from torch 2.6 on), since compiled code runs past hooks that were placed later.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(_register(hook).remove)
        if set_stance is not None:
            stack.enter_context(set_stance("force_eager"))
        yield


def _register(hook: Hook) -> Any:
    def silent_in_backward(*arguments: Any) -> Any:
        is_backward = torch._C._current_graph_task_id() != -1
        return None if is_backward else hook.function(*arguments)

    register = hook.module.register_forward_hook
    if hook.side == "input":
        register = hook.module.register_forward_pre_hook
    return register(silent_in_backward, with_kwargs=True, prepend=hook.first)
