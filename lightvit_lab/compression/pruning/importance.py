"""How much each unit matters: scores of neurons, heads, head dimensions, channels and blocks; the
least go first.

Taylor: |loss without the unit - loss| to first order, the unit's value times the gradient
(Molchanov et al., arXiv 1906.10771; of heads: Michel et al., arXiv 1905.10650). Fisher: the mean
square of the same for single pictures (Theis et al., arXiv 1801.05787). Derived in
chapters/compression/pruning.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...errors import plain_numbers
from ...models.timm_parts import attentions, block_names, head_shape, mlps, stream
from .activations import products, sizes

IMPORTANCES = ("magnitude", "taylor", "fisher", "activation", "random")
NEED_LABELS = ("taylor", "fisher")
NEED_INPUTS = (*NEED_LABELS, "activation")
COMPARABLE = NEED_LABELS      # in units of the loss, so that layers compare as they are


@plain_numbers
def scores(model: nn.Module, part: str, importance: str, inputs: Tensor | None = None,
           labels: Tensor | None = None, power: int = 2) -> dict[str, Tensor]:
    """Layer -> scores, the higher the more it matters, in float32 on the CPU.

    "mlp" (neurons,); "heads" (heads,); "head_width" (2, heads, head_dim), of queries with keys and
    of values; "blocks" () each; "embedding" {"embedding": (dim,)}. Magnitude is the norm of all
    weights that go with the unit, of `power` 2 or 1.
    """
    magnitudes = magnitude(model, part, power)
    if importance == "magnitude":
        found = magnitudes
    elif importance == "random":
        found = {name: torch.rand(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
                 for name, value in magnitudes.items()}
    elif importance == "activation":
        found = _of_activation(model, part, inputs, magnitudes)
    else:
        effects = _effects(model, part, inputs, labels)
        found = {name: value.mean(0).abs() if importance == "taylor" else value.square().mean(0)
                 for name, value in effects.items()}
    return {name: value.detach().float().cpu() for name, value in found.items()}


@plain_numbers
@torch.no_grad()
def magnitude(model: nn.Module, part: str, power: int = 2) -> dict[str, Tensor]:
    """Layer -> norm of what goes with each unit: rows that make it, and columns that read it."""
    if part == "mlp":
        found = {name: _rows(mlp.fc1, power) + _columns(mlp.fc2, power) for name, mlp in mlps(model).items()}
    elif part in ("heads", "head_width"):
        found = {name: _of_head_dims(attention, power) for name, attention in attentions(model).items()}
        found = {name: value.sum((0, 2)) for name, value in found.items()} if part == "heads" else found
    elif part == "embedding":
        found = {"embedding": _of_channels(model, power)}
    else:
        found = {name: _rows(block.attn.proj, power).sum() + _rows(block.mlp.fc2, power).sum()
                 for name in block_names(model) if (block := model.get_submodule(name))}
    return {name: value ** (1 / power) for name, value in found.items()}


def _of_head_dims(attention: nn.Module, power: int) -> Tensor:
    """(2, heads, head_dim): of each dimension's query and key, and of its value and what reads it."""
    query, key, value = _rows(attention.qkv, power).unflatten(0, (3, *head_shape(attention)))
    value = value + _columns(attention.proj, power).unflatten(0, head_shape(attention))
    if getattr(attention, "kv_global", None) is not None:
        of_key, of_value = _rows(attention.kv_global, power).unflatten(0, (2, *head_shape(attention)))
        read = _columns(attention.kv_global, power).unflatten(0, head_shape(attention))
        key, value = key + of_key, value + of_value + read
    return torch.stack([query + key, value])


def _of_channels(model: nn.Module, power: int) -> Tensor:
    parts = stream(model)
    norms = [part.weight.detach().float().abs().pow(power).cpu()
             for part in parts.norms if isinstance(part, nn.LayerNorm)]
    written = [_rows(part, power) for part in parts.writers]
    return sum([*norms, *written, *(_columns(part, power) for part in parts.readers)])


def _rows(layer: nn.Module, power: int) -> Tensor:
    """(outputs,) sum of |w|^power over what makes an output, on the CPU as all scores."""
    return layer.weight.detach().float().abs().pow(power).flatten(1).sum(1).cpu()


def _columns(layer: nn.Linear, power: int) -> Tensor:
    return layer.weight.detach().float().abs().pow(power).sum(0).cpu()


def _watched(model: nn.Module, part: str) -> dict[str, tuple[nn.Module, str]]:
    """Layer -> module, and which side of it, where the units can be seen."""
    if part == "mlp":
        return {name: (mlp.fc2, "input") for name, mlp in mlps(model).items()}
    if part == "heads":
        return {name: (attention.proj, "input") for name, attention in attentions(model).items()}
    if part == "head_width":
        return {name: (attention.qkv, "output") for name, attention in attentions(model).items()}
    if part == "embedding":
        norms = [part for part in stream(model).norms if isinstance(part, nn.LayerNorm)]
        return {str(place): (norm, "input") for place, norm in enumerate(norms)}
    return {name: (model.get_submodule(name), "change") for name in block_names(model)}


def _effects(model: nn.Module, part: str, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Layer -> (pictures, units...): how the loss of each picture would change, to first order,
    without the unit.
    """
    found = products(model, _watched(model, part), inputs, labels)
    if part == "embedding":
        return {"embedding": sum(found.values())}
    if part == "blocks":
        return {name: value.sum(1) for name, value in found.items()}
    if part == "mlp":
        return found
    shapes = {name: head_shape(attention) for name, attention in attentions(model).items()}
    if part == "heads":
        return {name: value.unflatten(1, shapes[name]).sum(2) for name, value in found.items()}
    # The effect of a query's dimension is that of its key's: the scores hold their product alone.
    return {name: value.unflatten(1, (3, *shapes[name]))[:, [0, 2]] for name, value in found.items()}


def _of_activation(model: nn.Module, part: str, inputs: Tensor,
                   magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean |value| of each unit times the norm of what reads it; of a block, how much it changes
    its tokens.
    """
    seen = sizes(model, _watched(model, part), inputs)
    if part == "blocks":
        return seen
    if part == "embedding":
        return {"embedding": sum(seen.values()) * magnitudes["embedding"]}
    if part == "mlp":
        return {name: seen[name] * _columns(mlp.fc2, 2).sqrt() for name, mlp in mlps(model).items()}
    found = {}
    for name, attention in attentions(model).items():
        reads = _columns(attention.proj, 2).sqrt().unflatten(0, head_shape(attention))
        if part == "heads":
            found[name] = (seen[name].unflatten(0, head_shape(attention)) * reads).sum(1)
        else:
            query, key, value = seen[name].unflatten(0, (3, *head_shape(attention)))
            found[name] = torch.stack([query * key, value * reads])
    return found
