"""Structured pruning's second half: rebuild a model with the neurons, heads, channels or blocks
that a plan keeps.

Plans are {"transform": "prune", "part": PART, "kept": KEPT}. KEPT is, for "mlp" and "heads", a dict
from the layer's name to the indices kept; for "head_width" to {"qk": ..., "v": ...}, the dimensions
kept in each head; for "embedding" the channels kept; for "blocks" the names kept. Derived in
chapters/compression/pruning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError, require_choice
from ...models.timm_parts import (attentions, block_names, gate_of, head_shape, mlps,
                                  normalises_heads, set_heads, set_width, stream)
from ...models.transforming import Plan, transform

PARTS = ("mlp", "heads", "head_width", "embedding", "blocks")


@transform("prune")
def apply_pruning(model: nn.Module, plan: Plan) -> nn.Module:
    """Keep in `model`, in place, what `plan` says; returns it. Looks at no data, and works on the
    meta device.

    Head width: queries are multiplied so that attention's scale stays that of the whole head,
    whatever the kernel divides by. Raises LabError where `plan` does not fit `model`.
    """
    require_choice("apply_pruning", "part", plan.get("part"), PARTS)
    kept = plan.get("kept")
    if not isinstance(kept, list if plan["part"] in ("embedding", "blocks") else dict) or not kept:
        raise LabError(f"apply_pruning: the plan for {plan['part']!r} keeps {str(kept)[:80]}; plans are made "
                       "by compression.pruning")
    {"mlp": _keep_neurons, "heads": _keep_heads, "head_width": _keep_head_width, "embedding": _keep_channels,
     "blocks": _keep_blocks}[plan["part"]](model, kept)
    return model


def _keep_neurons(model: nn.Module, kept: dict[str, Sequence[int]]) -> None:
    found = mlps(model)
    for name, index in kept.items():
        mlp = _named(found, name)
        neurons = _index(name, index, mlp.fc1.out_features)
        _keep_outputs(mlp.fc1, neurons)
        _keep_inputs(mlp.fc2, neurons)


def _keep_heads(model: nn.Module, kept: dict[str, Sequence[int]]) -> None:
    found = attentions(model)
    for name, index in kept.items():
        attention = _named(found, name)
        num_heads, head_dim = head_shape(attention)
        heads = _index(name, index, num_heads)
        dims = _whole_heads(heads.tolist(), head_dim)
        _cut(attention, heads, dims, dims)


def _keep_head_width(model: nn.Module, kept: dict[str, dict[str, Any]]) -> None:
    found = attentions(model)
    for name, dims in kept.items():
        attention = _named(found, name)
        num_heads, head_dim = head_shape(attention)
        if not isinstance(dims, dict) or not all(isinstance(dims.get(part), list) for part in ("qk", "v")):
            raise LabError(f"apply_pruning: of the heads of {name} the plan keeps {str(dims)[:80]}; give "
                           '{"qk": [[...], ...], "v": [[...], ...]}, a list of dimensions for each head')
        qk, v = ([_index(name, index, head_dim).tolist() for index in dims[part]] for part in ("qk", "v"))
        if len(qk) != num_heads or len(v) != num_heads or len({len(index) for index in qk + v}) != 1:
            raise LabError(f"apply_pruning: {name} has {num_heads} heads, and the plan does not keep equally many "
                           "dimensions in each; plans are made by compression.pruning.prune_head_width")
        _cut(attention, torch.arange(num_heads, device="cpu"), _absolute(qk, head_dim), _absolute(v, head_dim))


def _cut(attention: nn.Module, heads: Tensor, qk: Tensor, v: Tensor) -> None:
    """Keep `heads`, and of all dimensions side by side those in `qk` and `v`, both (heads kept,
    dimensions kept).
    """
    num_heads, old_dim = head_shape(attention)
    all_dims, new_dim = num_heads * old_dim, qk.shape[1]
    qk, v = qk.flatten(), v.flatten()
    _keep_outputs(attention.qkv, torch.cat([qk, all_dims + qk, 2 * all_dims + v]))
    _keep_inputs(attention.proj, v)
    if (gate := gate_of(attention)) is not None:
        _keep_outputs(gate, v)
    if getattr(attention, "kv_global", None) is not None:
        _keep_outputs(attention.kv_global, torch.cat([qk, all_dims + v]))
        _keep_inputs(attention.kv_global, v)
    if hasattr(attention, "relative_position_bias_table"):
        attention.relative_position_bias_table = _take(attention.relative_position_bias_table, 1, heads)
    _fold_scale(attention, len(qk), old_dim, new_dim)
    set_heads(attention, len(heads), new_dim)


@torch.no_grad()
def _fold_scale(attention: nn.Module, queries: int, old_dim: int, new_dim: int) -> None:
    """Multiply the first `queries` rows of qkv, so that q k^T / sqrt(new_dim) is what it was with
    sqrt(old_dim).
    """
    if old_dim == new_dim:
        return
    if normalises_heads(attention):
        raise LabError("apply_pruning: this attention normalises each head's queries and keys (qk_norm), over all "
                       "dimensions of the head, so none can go without changing the rest; prune whole heads, by "
                       "prune_heads")
    for value in (attention.qkv.weight, attention.qkv.bias):
        if value is not None:
            value[:queries] *= (new_dim / old_dim) ** 0.5


def _keep_channels(model: nn.Module, kept: Sequence[int]) -> None:
    parts = stream(model)
    dim = parts.readers[0].in_features
    channels = _index("the embedding", kept, dim)
    for name in parts.tables:
        setattr(model, name, _take(getattr(model, name), -1, channels))
    for part in dict.fromkeys(parts.writers):        # what stands in two places is cut once
        _keep_outputs(part, channels)
    for part in dict.fromkeys(parts.readers):
        _keep_inputs(part, channels)
    for part in dict.fromkeys(parts.norms):
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, _take(value, 0, channels))
        if hasattr(part, "normalized_shape"):
            part.normalized_shape = (len(channels),)
    set_width(model, len(channels))


def _keep_blocks(model: nn.Module, kept: Sequence[str]) -> None:
    names = block_names(model)
    for name in kept:
        require_choice("apply_pruning", "block", name, names)
    for parent in {name.rpartition(".")[0] for name in names}:
        if not any(name.rpartition(".")[0] == parent for name in kept):
            raise LabError(f"apply_pruning: the plan keeps no block of {parent}; keep one at least")
    for name in reversed([name for name in names if name not in kept]):
        parent, _, place = name.rpartition(".")
        del model.get_submodule(parent)[int(place)]


def _whole_heads(heads: Sequence[int], head_dim: int) -> Tensor:
    """(heads, head_dim): the places of all dimensions of `heads`."""
    return torch.tensor(heads, device="cpu")[:, None] * head_dim + torch.arange(head_dim, device="cpu")


def _absolute(dims: Sequence[Sequence[int]], head_dim: int) -> Tensor:
    """Dimensions within each head -> their places among all heads' dimensions side by side; (heads,
    kept).
    """
    return torch.tensor(dims, device="cpu") + torch.arange(len(dims), device="cpu")[:, None] * head_dim


def _keep_outputs(layer: nn.Linear | nn.Conv2d, index: Tensor) -> None:
    layer.weight = _take(layer.weight, 0, index)
    if layer.bias is not None:
        layer.bias = _take(layer.bias, 0, index)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(index))


def _keep_inputs(layer: nn.Linear, index: Tensor) -> None:
    layer.weight, layer.in_features = _take(layer.weight, 1, index), len(index)


def _take(value: nn.Parameter, axis: int, index: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().index_select(axis, index.to(value.device)), value.requires_grad)


def _named(found: dict[str, nn.Module], name: str) -> nn.Module:
    require_choice("apply_pruning", "layer", name, found)
    return found[name]


def _index(name: str, index: Sequence[int], size: int) -> Tensor:
    """`index` as a tensor. Raises LabError unless it holds at least one of range(size), and each
    once, in order.
    """
    is_list = isinstance(index, list) and all(type(place) is int for place in index)
    if not is_list or not index or index != sorted(set(index)) or index[0] < 0 or index[-1] >= size:
        raise LabError(f"apply_pruning: {name} has {size} units, and the plan keeps {str(index)[:80]}; give numbers "
                       f"from 0 to {size - 1}, rising, each once")
    return torch.tensor(index, device="cpu")     # also where the model is built on the meta device
