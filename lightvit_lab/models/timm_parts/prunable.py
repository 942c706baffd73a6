"""The parts of the lab's models and of timm's ViT and DeiT that pruning cuts."""

from __future__ import annotations

from typing import NamedTuple

from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from ...errors import LabError
from ...runtime.wrapped import require_unwrapped
from ..lightvit import LightViTAttention
from ..vision_transformer import Attention, VisionTransformer
from .attention import attention_modules
from .tokens import FRONT

_KNOWN = 'give one of the lab\'s transformers or timm\'s ViT or DeiT, for example models.create_model("lab_vit")'
TABLES = (*FRONT, "pos_embed")    # (1, n, dim), put beside tokens or added to them


class Stream(NamedTuple):
    """Who works on the channels of the tokens (B, N, dim) that run through a model."""

    tables: tuple[str, ...]       # names of the model's own parameters, dim last
    writers: list[nn.Module]      # linear layers and convolutions whose outputs are the channels
    readers: list[nn.Linear]      # linear layers whose inputs are the channels
    norms: list[nn.Module]        # normalise over the channels, or scale each


def mlps(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of two linear layers, `fc1` and `fc2`, with an activation between, in order.

    Raises LabError if there is none.
    """
    found = {name: part for name, part in model.named_modules() if hasattr(part, "fc1") and hasattr(part, "fc2")}
    for name, part in found.items():
        _require_linear(name, part, "fc1", "fc2")
        if part.fc1.out_features != part.fc2.in_features or not _is_absent(part, "norm"):
            raise LabError(f"{name} ({type(part).__name__}) has a gate or a norm between fc1 and fc2, which is not "
                           f"known here; {_KNOWN}")
    if not found:
        raise LabError(f"{type(model).__name__} has no MLPs of fc1 and fc2; {_KNOWN}")
    return found


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> attention module of one `qkv` and one `proj`, in order. Raises LabError for other
    kinds of attention.
    """
    found = attention_modules(model)
    for name, part in found.items():
        # without, it is timm's
        if type(part) not in (Attention, LightViTAttention) and hasattr(part, "weights"):
            raise LabError(f"{name} is {type(part).__name__}, whose heads are not known here; prune before attention "
                           f"is replaced, and {_KNOWN}")
        _require_linear(name, part, "qkv", "proj")
        if not _is_absent(part, "norm"):
            raise LabError(f"{name} normalises over all heads together (scale_norm), so none can go without changing "
                           "the others; give a model without it")
    return found


def head_shape(attention: nn.Module) -> tuple[int, int]:
    """(heads, head_dim) of one of `attentions`."""
    return attention.num_heads, attention.qkv.out_features // (3 * attention.num_heads)


def block_names(model: nn.Module) -> list[str]:
    """Names of the blocks, attention and MLP around one stream, in order. Raises LabError for a
    model that has none.
    """
    lists = {name for name, part in model.named_modules() if isinstance(part, nn.ModuleList | nn.Sequential)}
    found = [name for name, part in model.named_modules()
             if hasattr(part, "attn") and hasattr(part, "mlp") and name.rpartition(".")[0] in lists]
    if not found:
        raise LabError(f"{type(model).__name__} has no blocks of attention and MLP; {_KNOWN}")
    return found


def stream(model: nn.Module) -> Stream:
    """The stream of a plain ViT, which has one width from the patches to the head. Raises LabError
    for other models.
    """
    require_unwrapped("prune_embedding", model)
    if not isinstance(model, VisionTransformer | TimmVisionTransformer) or not _is_absent(model, "attn_pool"):
        raise LabError(f"{type(model).__name__} is no plain ViT, of one width from the patches to the head, so that "
                       "width cannot be pruned; prune neurons, heads or blocks: prune_mlp, prune_heads, prune_blocks")
    embed = model.patch_embed
    last = embed.proj[-1] if isinstance(embed.proj, nn.Sequential) else embed.proj
    mixers, neurons = list(attentions(model).values()), list(mlps(model).values())
    gates = [part.gate for part in mixers if not _is_absent(part, "gate")]
    heads = [getattr(model, name) for name in ("head", "head_dist") if not _is_absent(model, name)]
    norms = [(block, name) for block in model.blocks for name in ("norm1", "ls1", "norm2", "ls2")]
    norms += [(embed, "norm"), (model, "norm_pre"), (model, "norm"), (model, "fc_norm")]
    return Stream(tuple(name for name in TABLES if getattr(model, name, None) is not None),
                  [last, *(part.proj for part in mixers), *(part.fc2 for part in neurons)],
                  [*(part.qkv for part in mixers), *gates, *(part.fc1 for part in neurons), *heads],
                  [getattr(owner, name) for owner, name in norms if not _is_absent(owner, name)])


def set_width(model: nn.Module, dim: int) -> None:
    """Say that the tokens of `model` have `dim` channels, in all the places that say so."""
    for name in ("dim", "embed_dim", "num_features", "head_hidden_size"):
        if hasattr(model, name):
            setattr(model, name, dim)


def _is_absent(owner: nn.Module, name: str) -> bool:
    return isinstance(getattr(owner, name, None), nn.Identity | None)


def _require_linear(name: str, part: nn.Module, *layers: str) -> None:
    for layer in layers:
        if type(found := getattr(part, layer)) is not nn.Linear:
            raise LabError(f"{name}.{layer} is {type(found).__name__}, no plain linear layer, of which rows and "
                           "columns can be taken; prune first, then factorize or quantize what is left")
