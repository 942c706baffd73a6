"""One way into the attention of the lab's ViT and LightViT and of timm's ViT and DeiT.

A module is readable if it has a `weights` method that takes what its forward takes, as the lab's
attention has, or if it is timm's `Attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention import Attention as TimmAttention
from torch import Tensor, nn

from ...components import Attention, split_heads
from ...errors import LabError
from ...runtime.full_precision import full_precision
from ...runtime.wrapped import require_unwrapped
from .block_parts import PlainAttention

GIVE_VIT = 'give the lab\'s ViT or timm\'s ViT or DeiT, for example models.create_model("lab_vit")'


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> attention module of `model` that can be read, in order.

    Raises LabError if none can be, and names what cannot.
    """
    require_unwrapped("attention", model)
    modules, kind = dict(model.named_modules()), type(model).__name__
    if readable := {name: part for name, part in modules.items() if is_readable(part)}:
        return readable
    known = ("readable are the lab's models, timm's ViT and DeiT, and attention with a method "
             f"`weights` that takes what its forward takes; {GIVE_VIT}")
    fused = [f"{name} ({type(part).__name__})" for name, part in modules.items()
             if isinstance(part, nn.MultiheadAttention) or hasattr(part, "fused_attn")]
    if fused:
        more = f" and {len(fused) - 1} more" if fused[1:] else ""
        raise LabError(f"{kind} computes attention in {fused[0]}{more}, where fused attention does "
                       f"not give its weights; {known}")
    raise LabError(f"{kind} has no attention that can be read; {known}")


def is_readable(module: nn.Module) -> bool:
    """True for attention whose weights can be read: by its own `weights`, or as timm does."""
    return _is_timm(module) or callable(getattr(module, "weights", None))


def _is_timm(module: nn.Module) -> bool:
    """True for timm's `Attention`, and its heirs that compute the same."""
    return isinstance(module, TimmAttention) and type(module).forward is TimmAttention.forward


def attention_weights(module: nn.Module, *arguments: Any,
                      **keywords: Any) -> Tensor | dict[str, Tensor]:
    """Weights of a readable `module` for its forward's arguments: (batch, heads, N, N), or a dict.

    In float32, as fused kernels compute their softmax, whatever the type of the tokens.
    """
    if _is_timm(module):
        return _weights_of_timm(module, *arguments, **keywords)
    read = full_precision(lambda part, *given, **named: part.weights(*given, **named))
    found = read(module, *arguments, **keywords)
    if isinstance(found, dict):
        return {name: part.float() for name, part in found.items()}
    return found.float()


@full_precision
def _weights_of_timm(module: TimmAttention, tokens: Tensor, attn_mask: Tensor | None = None,
                     is_causal: bool = False) -> Tensor:
    parts, count = PlainAttention(module), tokens.shape[1]
    query, key, _ = parts.split_heads(tokens)
    if is_causal:
        attn_mask = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
    return parts.weigh(query.float(), key.float(), attn_mask)


def values_and_mixed(module: nn.Module) -> tuple[Any, nn.Module]:
    """For gradients through fused attention: values of tokens, and the part that is given the mix.

    The first is a function of tokens whose result is (batch, heads, N, head_dim). The second's
    input is what the heads mixed of these, side by side: (batch, N, heads * head_dim). Raises
    LabError for attention that is not of one square of weights a head.
    """
    if not isinstance(module, Attention) and not _is_timm(module):
        raise LabError(f"{type(module).__name__} mixes tokens by more than one square of weights; "
                       f"gradients of weights are for plain self-attention; {GIVE_VIT}")
    mixed = module.norm if _is_timm(module) else module.proj
    return lambda tokens: split_heads(module.qkv(tokens), 3, module.num_heads)[2], mixed


def plain_attention(caller: str, module: nn.Module) -> nn.Module:
    """`module`, if it is self-attention of qkv, proj, num_heads, head_dim and scale alone.

    Raises LabError, in the name of `caller`, for any other.
    """
    plain = isinstance(module, Attention) or _is_timm(module)
    if not plain or getattr(module, "gate", None) is not None:
        kind = type(module).__name__
        raise LabError(f"{caller}: {kind} is more than plain self-attention; {GIVE_VIT}")
    return module
