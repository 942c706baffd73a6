"""The parts of the lab's models and of timm's ViT and DeiT that pruning cuts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from ...components import Attention
from ...errors import LabError
from ...runtime.wrapped import require_unwrapped
from ..lightvit import LightViTAttention
from ..vision_transformer import VisionTransformer
from .attention import GIVE_VIT, attention_modules
from .forward import require_no_lift
from .tokens import FRONT

TABLES = (*FRONT, "pos_embed")    # (1, n, dim), of tokens in front or added to tokens


class Stream(NamedTuple):
    """What works on the channels of the tokens (B, N, dim) that run through a model."""

    tables: list[str]             # names of the model's own parameters, dim last
    writers: list[nn.Module]      # linear layers and convolutions whose outputs are the channels
    readers: list[nn.Linear]      # linear layers whose inputs are the channels
    norms: list[nn.Module]        # normalise over the channels, or scale each


def mlps(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of two linear layers, `fc1` and `fc2`, with an activation between, in order.

    Raises LabError if there is none.
    """
    layers = {name: part for name, part in model.named_modules()
              if hasattr(part, "fc1") and hasattr(part, "fc2")}
    if not layers:
        raise LabError(f"{type(model).__name__} has no MLPs of fc1 and fc2; {GIVE_VIT}")
    for name, part in layers.items():
        _require_linear(name, part, "fc1", "fc2")
        if part.fc1.out_features != part.fc2.in_features or not _is_absent(part, "norm"):
            raise LabError(f"{name} ({type(part).__name__}) has a gate or a norm between fc1 and "
                           f"fc2, which is not known here; {GIVE_VIT}")
    return layers


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> attention module of one `qkv` and one `proj`, in order.

    Raises LabError for other kinds of attention.
    """
    layers = attention_modules(model)
    for name, part in layers.items():
        # without `weights`, it is timm's
        if type(part) not in (Attention, LightViTAttention) and hasattr(part, "weights"):
            raise LabError(f"{name} is {type(part).__name__}, whose heads are not known here; "
                           f"prune before attention is replaced, and {GIVE_VIT}")
        _require_linear(name, part, "qkv", "proj")
        if not _is_absent(part, "norm"):
            raise LabError(f"{name} normalises over all heads together (scale_norm), so none can "
                           "go without changing the others; give a model without it")
    return layers


def head_shape(attention: nn.Module) -> tuple[int, int]:
    """(heads, head_dim) of one of `attentions`."""
    return attention.num_heads, attention.qkv.out_features // (3 * attention.num_heads)


def normalises_heads(attention: nn.Module) -> bool:
    """Whether queries and keys are normalised head by head before they are compared."""
    return not _is_absent(attention, "q_norm")


def set_heads(attention: nn.Module, num_heads: int, head_dim: int) -> None:
    """Change the number of heads and their width, under all names that `attention` has for them."""
    _set(attention, num_heads=num_heads, head_dim=head_dim, attn_dim=num_heads * head_dim,
         scale=head_dim**-0.5)


def block_names(model: nn.Module) -> list[str]:
    """Names of the blocks, attention and MLP around one stream, in order.

    Raises LabError for a model that has none.
    """
    modules = dict(model.named_modules())
    names = [name for name, part in modules.items()
             if hasattr(part, "attn") and hasattr(part, "mlp")
             and isinstance(modules[name.rpartition(".")[0]], nn.ModuleList | nn.Sequential)]
    if not names:
        raise LabError(f"{type(model).__name__} has no blocks of attention and MLP; {GIVE_VIT}")
    return names


def stream(model: nn.Module) -> Stream:
    """The stream of a plain ViT, which has one width from the patches to the head.

    Raises LabError for other models.
    """
    require_unwrapped("prune_embedding", model)
    is_vit = isinstance(model, VisionTransformer | TimmVisionTransformer)
    if not is_vit or not _is_absent(model, "attn_pool"):
        raise LabError(f"{type(model).__name__} is no plain ViT, of one width that can be pruned; "
                       "prune neurons, heads or blocks: prune_mlp, prune_heads, prune_blocks")
    require_no_lift("prune_embedding", model)
    embed = model.patch_embed
    last = embed.proj[-1] if isinstance(embed.proj, nn.Sequential) else embed.proj
    mixers, neurons = attentions(model).values(), mlps(model).values()
    readers = [*_present(mixers, "qkv"), *_present(mixers, "gate"), *_present(neurons, "fc1"),
               *_present([model], "head", "head_dist")]
    norms = [*_present(model.blocks, "norm1", "ls1", "norm2", "ls2"), *_present([embed], "norm"),
             *_present([model], "norm_pre", "norm", "fc_norm")]
    return Stream([name for name in TABLES if getattr(model, name, None) is not None],
                  [last, *_present(mixers, "proj"), *_present(neurons, "fc2")], readers, norms)


def set_width(model: nn.Module, dim: int) -> None:
    """Change the number of channels of tokens, under all names that `model` has for it."""
    _set(model, dim=dim, embed_dim=dim, num_features=dim, head_hidden_size=dim)


def _set(part: nn.Module, **sizes: float) -> None:
    for name, value in sizes.items():
        if hasattr(part, name):
            setattr(part, name, value)


def _present(owners: Iterable[nn.Module], *names: str) -> list[nn.Module]:
    return [getattr(owner, name) for owner in owners for name in names
            if not _is_absent(owner, name)]


def _is_absent(owner: nn.Module, name: str) -> bool:
    return isinstance(getattr(owner, name, None), nn.Identity | None)


def _require_linear(name: str, part: nn.Module, *layers: str) -> None:
    for layer in layers:
        if type(found := getattr(part, layer)) is not nn.Linear:
            raise LabError(f"{name}.{layer} is {type(found).__name__}, no plain linear layer that "
                           "can be cut; prune first, then factorize or quantize what is left")
