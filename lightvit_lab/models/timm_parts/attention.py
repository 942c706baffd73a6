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


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> attention module of `model` that can be read, in order. Raises LabError, naming what
    cannot be, if none can.
    """
    require_unwrapped("attention", model)
    readable = {name: module for name, module in model.named_modules() if is_readable(module)}
    if readable:
        return readable
    unreadable = [f"{name} ({type(module).__name__})" for name, module in model.named_modules()
                  if isinstance(module, nn.MultiheadAttention) or hasattr(module, "fused_attn")]
    known = ("readable are the lab's models, timm's ViT and DeiT, and any module that has a method `weights`, which "
             'takes what its forward takes; for example models.create_model("lab_vit")')
    if unreadable:
        more = f" and {len(unreadable) - 1} more" if unreadable[1:] else ""
        raise LabError(f"{type(model).__name__} computes attention in {unreadable[0]}{more}, where fused attention keeps "
                       f"its weights to itself and nothing here knows how to compute them; {known}")
    raise LabError(f"{type(model).__name__} has no attention that can be read; {known}")


def is_readable(module: nn.Module) -> bool:
    """True for attention whose weights can be read: by its own `weights`, or as timm computes them."""
    return _is_timm(module) or callable(getattr(module, "weights", None))


def _is_timm(module: nn.Module) -> bool:
    """True for timm's `Attention`, and its heirs that compute the same."""
    return isinstance(module, TimmAttention) and type(module).forward is TimmAttention.forward


def attention_weights(module: nn.Module, *arguments: Any,
                      **keywords: Any) -> Tensor | dict[str, Tensor]:
    """What the weights of a readable `module` are for the arguments of its forward: (batch, heads,
    N, N), or a dict of such.

    In float32, as fused kernels compute their softmax, whatever the type of the tokens.
    """
    if _is_timm(module):
        return _weights_of_timm(module, *arguments, **keywords)
    found = full_precision(lambda this, *given, **named: this.weights(*given, **named))(module, *arguments, **keywords)
    return {name: part.float() for name, part in found.items()} if isinstance(found, dict) else found.float()


@full_precision
def _weights_of_timm(module: TimmAttention, tokens: Tensor, attn_mask: Tensor | None = None,
                     is_causal: bool = False) -> Tensor:
    query, key, _ = _split_heads_of_timm(module, tokens)
    scores = module.q_norm(query).float() @ module.k_norm(key).float().transpose(-2, -1) * module.scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(dim=-1)


def _split_heads_of_timm(module: TimmAttention, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return split_heads(module.qkv(tokens), 3, module.num_heads)


def values_and_mixed(module: nn.Module) -> tuple[Any, nn.Module]:
    """For gradients through fused attention: a function tokens -> values (batch, heads, N,
    head_dim), and the part whose input is what the heads mixed of them, side by side: (batch, N,
    heads * head_dim).

    Raises LabError for attention that is not of one square of weights a head.
    """
    if _is_timm(module):
        return lambda tokens: _split_heads_of_timm(module, tokens)[2], module.norm
    if isinstance(module, Attention):
        return lambda tokens: module.split_heads(tokens)[2], module.proj
    raise LabError(f"{type(module).__name__} mixes tokens by more than one square of weights; gradients of weights are for "
                   'plain self-attention, as in models.create_model("lab_vit") and timm\'s ViT and DeiT')


def plain_attention(caller: str, module: nn.Module) -> nn.Module:
    """`module` itself, if it is self-attention of `qkv`, `proj`, `num_heads`, `head_dim` and
    `scale` alone.

    Raises LabError, in the name of `caller`, for any other.
    """
    if isinstance(module, Attention) or (_is_timm(module) and gate_of(module) is None):
        return module
    raise LabError(f"{caller}: {type(module).__name__} is more than plain self-attention; give the lab's ViT or "
                   'timm\'s ViT or DeiT, for example models.create_model("lab_vit")')



def gate_of(attention: nn.Module) -> nn.Linear | None:
    """The layer that makes a gate for what the heads mixed, None where there is none."""
    return getattr(attention, "gate", None)


def normalises_heads(attention: nn.Module) -> bool:
    """Whether queries and keys are normalised head by head before they are compared."""
    return not isinstance(getattr(attention, "q_norm", None), nn.Identity | None)


def set_heads(attention: nn.Module, num_heads: int, head_dim: int) -> None:
    """Say that `attention` has so many heads of that width, in all the places that say so."""
    sizes = {"num_heads": num_heads, "head_dim": head_dim, "attn_dim": num_heads * head_dim, "scale": head_dim**-0.5}
    for name, value in sizes.items():
        if hasattr(attention, name):
            setattr(attention, name, value)
