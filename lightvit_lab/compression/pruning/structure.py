"""Structured pruning's second half: rebuild a model with what a plan keeps.

Plans are {"transform": "prune", "part": PART, "kept": KEPT}. KEPT is, for "mlp" and "heads", a dict
from the layer's name to the indices kept; for "head_width" to {"qk": ..., "v": ...}, the dimensions
kept in each head; for "embedding" the channels kept; for "blocks" the names kept. Derived in
chapters/compression/pruning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError, require_choice
from ...models.timm_parts import (attentions, block_names, head_shape, mlps, normalises_heads,
                                  set_heads, set_width, stream)
from ...models.transforming import Plan, transform


@transform("prune")
def apply_pruning(model: nn.Module, plan: Plan) -> nn.Module:
    """Keep in `model`, in place, what `plan` says; returns it. Works on the meta device too.

    Head width: queries are multiplied so that attention's scale stays that of the whole head,
    whatever the kernel divides by. Raises LabError where `plan` does not fit `model`.
    """
    by_layer = {"mlp": _keep_neurons, "heads": _keep_heads, "head_width": _keep_head_width}
    whole = {"embedding": _keep_channels, "blocks": _keep_blocks}
    part, kept = plan.get("part"), plan.get("kept")
    require_choice("apply_pruning", "part", part, [*by_layer, *whole])
    if not isinstance(kept, list if part in whole else dict) or not kept:
        raise LabError(f"apply_pruning: the plan for {part!r} keeps {str(kept)[:80]}; plans are "
                       "made by compression.pruning")
    if part in whole:
        whole[part](model, kept)
        return model
    layers = mlps(model) if part == "mlp" else attentions(model)
    for name, index in kept.items():
        require_choice("apply_pruning", "layer", name, layers)
        by_layer[part](name, layers[name], index)
    return model


def _keep_neurons(name: str, mlp: nn.Module, index: Sequence[int]) -> None:
    neurons = _index(name, index, mlp.fc1.out_features)
    _keep_outputs(mlp.fc1, neurons)
    _keep_inputs(mlp.fc2, neurons)


def _keep_heads(name: str, attention: nn.Module, index: Sequence[int]) -> None:
    num_heads, head_dim = head_shape(attention)
    heads = _index(name, index, num_heads)
    dims = heads[:, None] * head_dim + torch.arange(head_dim, device="cpu")
    _cut(attention, heads, dims, dims)


def _keep_head_width(name: str, attention: nn.Module, dims: dict[str, Any]) -> None:
    num_heads, head_dim = head_shape(attention)
    lists = [dims.get(part) for part in ("qk", "v")] if isinstance(dims, dict) else []
    lists = [part for part in lists if isinstance(part, list) and len(part) == num_heads]
    index = [_index(name, one, head_dim) for part in lists for one in part]
    if len(index) != 2 * num_heads or len({len(one) for one in index}) != 1:
        raise LabError(f"apply_pruning: {name} has {num_heads} heads, and the plan keeps "
                       f'{str(dims)[:80]}; give {{"qk": [[...], ...], "v": [[...], ...]}}, equally '
                       "many dimensions of each head")
    heads = torch.arange(num_heads, device="cpu")
    qk, v = torch.stack(index).unflatten(0, (2, num_heads)) + heads[:, None] * head_dim
    _cut(attention, heads, qk, v)


def _cut(attention: nn.Module, heads: Tensor, qk: Tensor, v: Tensor) -> None:
    """Keep `heads`, and of all dimensions side by side those in `qk` and `v`.

    Both are (heads kept, dimensions kept).
    """
    num_heads, old_dim = head_shape(attention)
    all_dims, new_dim = num_heads * old_dim, qk.shape[1]
    qk, v = qk.flatten(), v.flatten()
    _keep_outputs(attention.qkv, torch.cat([qk, all_dims + qk, 2 * all_dims + v]))
    _keep_inputs(attention.proj, v)
    if (gate := getattr(attention, "gate", None)) is not None:
        _keep_outputs(gate, v)
    if (kv_global := getattr(attention, "kv_global", None)) is not None:
        _keep_outputs(kv_global, torch.cat([qk, all_dims + v]))
        _keep_inputs(kv_global, v)
    if (table := getattr(attention, "relative_position_bias_table", None)) is not None:
        attention.relative_position_bias_table = _take(table, 1, heads)
    _fold_scale(attention, len(qk), (new_dim / old_dim) ** 0.5)
    set_heads(attention, len(heads), new_dim)


@torch.no_grad()
def _fold_scale(attention: nn.Module, queries: int, factor: float) -> None:
    """Multiply the first `queries` rows of qkv by `factor`: attention's scale stays as it was."""
    if factor == 1:
        return
    if normalises_heads(attention):
        raise LabError("apply_pruning: qk_norm normalises over all dimensions of a head, so none "
                       "can go without changing the rest; prune whole heads, by prune_heads")
    for value in (attention.qkv.weight, attention.qkv.bias):
        if value is not None:
            value[:queries] *= factor


def _keep_channels(model: nn.Module, kept: Sequence[int]) -> None:
    parts = stream(model)
    channels = _index("the embedding", kept, parts.readers[0].in_features)
    for name in parts.tables:
        setattr(model, name, _take(getattr(model, name), -1, channels))
    for part in set(parts.writers):                  # what stands in two places is cut once
        _keep_outputs(part, channels)
    for part in set(parts.readers):
        _keep_inputs(part, channels)
    for part in set(parts.norms):
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, _take(value, 0, channels))
        if hasattr(part, "normalized_shape"):
            part.normalized_shape = (len(channels),)
    set_width(model, len(channels))


def _keep_blocks(model: nn.Module, kept: Sequence[str]) -> None:
    names = block_names(model)
    for name in kept:
        require_choice("apply_pruning", "block", name, names)
    for parent in lists_emptied(names, kept):
        raise LabError(f"apply_pruning: the plan keeps no block of {parent}; keep one at least")
    for name in reversed([name for name in names if name not in kept]):
        parent, _, place = name.rpartition(".")
        del model.get_submodule(parent)[int(place)]


def lists_emptied(names: Iterable[str], kept: Iterable[str]) -> list[str]:
    """The lists, such as "blocks" or "stages.1", that have blocks in `names` and none in `kept`."""
    left = {name.rpartition(".")[0] for name in kept}
    parents = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return [parent for parent in parents if parent not in left]


def _keep_outputs(layer: nn.Linear | nn.Conv2d, index: Tensor) -> None:
    layer.weight = _take(layer.weight, 0, index)
    if layer.bias is not None:
        layer.bias = _take(layer.bias, 0, index)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(index))


def _keep_inputs(layer: nn.Linear, index: Tensor) -> None:
    layer.weight, layer.in_features = _take(layer.weight, 1, index), len(index)


def _take(value: nn.Parameter, axis: int, index: Tensor) -> nn.Parameter:
    taken = value.detach().index_select(axis, index.to(value.device))
    return nn.Parameter(taken, value.requires_grad)


def _index(name: str, index: Sequence[int], size: int) -> Tensor:
    """`index` as a tensor; LabError unless it has one of range(size) or more, rising."""
    whole = isinstance(index, list) and all(type(place) is int for place in index)
    if not whole or not index or index != sorted(set(index) & set(range(size))):
        raise LabError(f"apply_pruning: {name} has {size} units, and the plan keeps "
                       f"{str(index)[:80]}; give numbers from 0 to {size - 1}, rising, each once")
    return torch.tensor(index, device="cpu")     # also where the model is built on the meta device
