"""What several adapters need: models of timm as a case names them, weights by the rule, and
common numbers.
"""

from collections.abc import Callable
from typing import Any

import timm
import torch
from drawn_weights import fill
from torch import Tensor, nn

from lightvit_lab import models, profiling

from ..cases import Case, call_of
from . import Found


def timm_model(case: Case, name: str = "", **arguments: Any) -> nn.Module:
    """The model of `timm.create_model(...)` in the words of a case, or of `name`, built by the
    library and filled.
    """
    if not name:
        _, (name, *_), arguments = call_of(case.call, "timm.create_model")
    return fill(models.create_model(name, **_size_of(case, name), **arguments))


def _size_of(case: Case, name: str) -> dict[str, Any]:
    """`img_size`, where the pictures of a case have another than a plain ViT of that name asks
    for.
    """
    size = case.image_shape()[1:]
    default = timm.get_pretrained_cfg(name)
    plain = name.startswith(("vit_", "deit_")) and default is not None
    if "img_size" in case.call or not plain or tuple(default.input_size[1:]) == size:
        return {}
    return {"img_size": size}


def weight_rows(model: nn.Module, published: Callable[[str], str] = str) -> list[list[Any]]:
    """[name, shape, type] of each weight, by its published name, as fixtures list them."""
    return [
        [published(key), list(value.shape), str(value.dtype)]
        for key, value in model.state_dict().items()
    ]


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(value.numel() for value in model.parameters())


def drop_bias(layer: nn.Linear, keep: bool) -> None:
    """Take the bias of a layer away, unless it is to be kept: some cases are of models without."""
    if not keep:
        layer.bias = None


def of_logits(logits: Tensor, name: str = "logits") -> Found:
    """The logits, and what cases say of them beside."""
    yield name, logits
    yield f"{name}_first10", logits[:, :10]
    yield f"{name}_stats", logits
    yield f"{name}_argmax", logits.argmax(1)


def flops(case: Case, model: nn.Module) -> int:
    """Floating-point operations of one picture of the case, by the library's own count."""
    return profiling.count(model, case.image_shape()).flops


@torch.no_grad()
def tokens_after_blocks(model: nn.Module, images: Tensor) -> list[int]:
    """How many tokens each block hands on."""
    counts: list[int] = []
    handles = [
        block.register_forward_hook(lambda _module, _given, tokens: counts.append(tokens.shape[1]))
        for block in model.blocks
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return counts
