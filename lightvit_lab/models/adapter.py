"""One way into the attention of the lab's ViT and LightViT and of timm's ViT and DeiT: the only place that knows timm's parts.

A module is readable if it has a `weights` method that takes what its forward takes, as the lab's attention has, or if it
is timm's `Attention`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any, NamedTuple

import torch
from timm.layers.attention import Attention as TimmAttention
from torch import Tensor, nn

from ..errors import LabError
from .vision_transformer import Attention


class Layout(NamedTuple):
    """How a model's tokens are laid out: `prefix` tokens in front, the class token first, then `rows` x `columns` patches."""

    prefix: int
    rows: int
    columns: int


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> attention module of `model` that can be read, in order. Raises LabError, naming what cannot be, if none can."""
    if hasattr(model, "_orig_mod"):
        raise LabError("this model is compiled, and what was compiled runs past the hooks that read attention; give the model "
                       "before torch.compile, which is compiled._orig_mod")
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


def attention_weights(module: nn.Module, *arguments: Any, **keywords: Any) -> Tensor | dict[str, Tensor]:
    """What the weights of a readable `module` are for the arguments of its forward: (batch, heads, N, N), or a dict of such.

    In float32, as fused kernels compute their softmax, whatever the type of the tokens.
    """
    if not _is_timm(module):
        found = module.weights(*arguments, **keywords)
        return {name: part.float() for name, part in found.items()} if isinstance(found, dict) else found.float()
    return _weights_of_timm(module, *arguments, **keywords)


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
    qkv = module.qkv(tokens).unflatten(-1, (3, module.num_heads, module.head_dim))     # (B, N, 3, heads, head_dim)
    return qkv.permute(2, 0, 3, 1, 4).unbind(0)


def values_and_mixed(module: nn.Module) -> tuple[Any, nn.Module]:
    """For gradients through fused attention: a function tokens -> values (batch, heads, N, head_dim), and the part whose
    input is what the heads mixed of them, side by side: (batch, N, heads * head_dim).

    Raises LabError for attention that is not of one square of weights a head.
    """
    if _is_timm(module):
        return lambda tokens: _split_heads_of_timm(module, tokens)[2], module.norm
    if isinstance(module, Attention):
        return lambda tokens: module.split_heads(tokens)[2], module.proj
    raise LabError(f"{type(module).__name__} mixes tokens by more than one square of weights; gradients of weights are for "
                   'plain self-attention, as in models.create_model("lab_vit") and timm\'s ViT and DeiT')


def plain_attention(caller: str, module: nn.Module) -> nn.Module:
    """`module` itself, if it is self-attention of `qkv`, `proj`, `num_heads`, `head_dim` and `scale` alone.

    Raises LabError, in the name of `caller`, for any other.
    """
    if isinstance(module, Attention) or (_is_timm(module) and module.gate is None):
        return module
    raise LabError(f"{caller}: {type(module).__name__} is more than plain self-attention; give the lab's ViT or "
                   'timm\'s ViT or DeiT, for example models.create_model("lab_vit")')


def token_counts(caller: str, model: nn.Module) -> tuple[int, int]:
    """How many tokens enter the blocks of a ViT, and how many of them, in front, stand for no patch.

    Raises LabError, in the name of `caller`, for models that do not say so.
    """
    patches = getattr(model, "num_image_tokens", getattr(getattr(model, "patch_embed", None), "num_patches", None))
    prefix = getattr(model, "num_prefix_tokens", None)
    if not isinstance(patches, int) or not isinstance(prefix, int):
        raise LabError(f"{caller}: {type(model).__name__} does not say how many tokens it makes of a picture; give "
                       'the lab\'s ViT or timm\'s ViT or DeiT, for example models.create_model("lab_vit")')
    return prefix + patches, prefix


def layout(model: nn.Module, inputs: Tensor, num_tokens: int) -> Layout:
    """The layout of the `num_tokens` tokens that attention sees for `inputs` (batch, channels, height, width).

    Raises LabError if they form no grid of the picture's proportions.
    """
    prefix = getattr(model, "num_prefix_tokens", 1)
    height, width = inputs.shape[-2:]
    rows = round(((num_tokens - prefix) * height / width) ** 0.5)
    columns = (num_tokens - prefix) // rows if rows > 0 else 0
    if rows < 1 or rows * columns != num_tokens - prefix:
        raise LabError(f"{num_tokens - prefix} image tokens form no grid over a picture of {height} x {width} pixels; "
                       "if tokens were dropped or merged, read the maps of a model that keeps them all")
    return Layout(prefix, rows, columns)


def num_prefix_tokens(model: nn.Module, num_tokens: int) -> int:
    """How many of `num_tokens` stand for no patch: the class token, a distillation token, LightViT's global tokens.

    Of a model that does not say so: none where the tokens form a square as they are, else one.
    """
    told = getattr(model, "num_prefix_tokens", getattr(model, "num_tokens", None))
    return told if isinstance(told, int) else int(isqrt(num_tokens) ** 2 != num_tokens)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, or the stages of another network, in order: what features are taken from.

    Raises LabError for a model that has neither.
    """
    for name in ("blocks", "stages"):
        if isinstance(found := getattr(model, name, None), (nn.ModuleList, nn.Sequential)) and len(found):
            return list(found)
    if names := [stage["module"] for stage in getattr(model, "feature_info", ()) if "module" in stage]:
        return [model.get_submodule(name) for name in names]
    raise LabError(f"{type(model).__name__} has no `blocks`, no `stages` and no `feature_info` to take features from; give "
                   'one of the lab\'s models or one of timm\'s, for example models.create_model("lab_vit")')


@contextmanager
def both_heads(model: nn.Module) -> Iterator[None]:
    """In train mode, let a model with a distillation token return the logits of both its heads, not their mean."""
    switch = getattr(model, "set_distilled_training", None)
    keeper = next((part for part in (model, getattr(model, "head", None)) if hasattr(part, "distilled_training")), None)
    if switch is None or keeper is None:
        yield
        return
    before = keeper.distilled_training
    switch(True)
    try:
        yield
    finally:
        switch(before)
