"""Attention weights of every block, recorded beside the model's own forward.

The model keeps its fused attention: a hook on each attention module computes the weights from the
same tokens, and is removed when the `with` block ends. Derived in
`chapters/foundations/vision_transformer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor | dict[str, Tensor]]]:
    """Yield a list that each forward fills with the attention weights of every block, in order.

    A block has one (batch, heads, tokens, tokens) tensor for a ViT, the lab's or timm's, and a dict
    of three for LightViT: "window", "aggregation", "broadcast". Float32, also under autocast, on
    the model's device; rows sum to 1. The list is emptied when a new forward reaches the first
    block; what is recomputed in a backward pass is not recorded again. Raises LabError if the model
    has no attention that can be read, or if nothing was recorded when the `with` block ends without
    an exception.
    """
    modules = list(timm_parts.attention_modules(model).values())
    maps: list[Tensor | dict[str, Tensor]] = []

    @torch.no_grad()
    def record(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if module is modules[0]:
            maps.clear()
        maps.append(timm_parts.attention_weights(module, *arguments, **keywords))

    with hooked(Hook(module, "input", record) for module in modules):
        yield maps
    if not maps:
        raise LabError("record_attention: nothing was recorded; call model(inputs) in the `with`")
