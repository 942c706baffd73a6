"""How much each unit matters: of neurons, heads, head dimensions, channels, blocks the least go.

Taylor: |loss without the unit - loss| to first order, the unit's value times the gradient, of the
mean over all pictures (Molchanov et al., arXiv 1906.10771, with the calibration set as one batch);
per picture: the mean of |change| over single pictures, as Michel et al. (arXiv 1905.10650) have it
for heads. Fisher: the mean square of the same (Theis et al., arXiv 1801.05787). Std: how much
the unit varies, times the norm of what reads it: what is constant can go into a bias, and
`compensate=True` puts it there. Flap (An et al., arXiv 2312.11983): the square of that, of
dimensions in heads its square again, as in the authors' code; less the layer's mean and over its
deviation, so that layers compare. Derived in chapters/compression/pruning.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers
from ...models.timm_parts import attentions, block_names, head_shape, mlps, stream
from .activations import products, sizes, spreads

NEED_LABELS = ("taylor", "taylor_per_picture", "fisher")
_OF_ACTIVATIONS = ("activation", "std", "flap")
NEED_INPUTS = (*NEED_LABELS, *_OF_ACTIVATIONS)
COMPARABLE = (*NEED_LABELS, "flap")     # in units of the loss, or of deviations: layers compare
IMPORTANCES = ("magnitude", *NEED_INPUTS, "random")
_OVER_PICTURES = {"taylor": lambda effects: effects.mean(0).abs(),
                  "taylor_per_picture": lambda effects: effects.abs().mean(0),
                  "fisher": lambda effects: effects.square().mean(0)}


@plain_numbers
def scores(model: nn.Module, part: str, importance: str, inputs: Tensor | None = None,
           labels: Tensor | None = None, power: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Layer -> scores, the higher the more it matters, in float32 on the CPU.

    "mlp" (neurons,); "heads" (heads,); "head_width" (2, heads, head_dim), of queries with keys and
    of values; "blocks" () each; "embedding" {"embedding": (dim,)}. Magnitude is the norm of all
    weights that go with the unit, of `power` 2 or 1; `seed` is that of random scores. Only flap's
    scores can be below 0. Raises LabError on the std of blocks, and on flap but of "mlp", "heads".
    """
    values = magnitude(model, part, power)
    if importance == "random":
        for name, one in values.items():
            seeded = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
            values[name] = torch.rand(one.shape, generator=seeded)
    elif importance in _OF_ACTIVATIONS:
        values = _of_activation(model, part, inputs, values, importance)
    elif importance in NEED_LABELS:
        over_pictures = _OVER_PICTURES[importance]
        values = {name: over_pictures(one)
                  for name, one in _effects(model, part, inputs, labels).items()}
    return {name: one.detach().float().cpu() for name, one in values.items()}


@plain_numbers
@torch.no_grad()
def magnitude(model: nn.Module, part: str, power: int = 2) -> dict[str, Tensor]:
    """Layer -> norm of what goes with each unit: rows that make it, and columns that read it."""
    units = dict(_powers(model, part, power))
    return {name: value ** (1 / power) for name, value in units.items()}


def _powers(model: nn.Module, part: str, power: int) -> Iterator[tuple[str, Tensor]]:
    """Layer and, of each unit, the sum of |w|^power over the weights that go with it."""
    if part == "embedding":
        yield part, _of_channels(model, power)
    elif part == "blocks":
        for name in block_names(model):
            block = model.get_submodule(name)
            yield name, _rows(block.attn.proj, power).sum() + _rows(block.mlp.fc2, power).sum()
    elif part == "mlp":
        for name, mlp in mlps(model).items():
            yield name, _rows(mlp.fc1, power) + _columns(mlp.fc2, power)
    else:
        for name, attention in attentions(model).items():
            dims = _of_head_dims(attention, power)
            yield name, dims.sum((0, 2)) if part == "heads" else dims


def _of_head_dims(attention: nn.Module, power: int) -> Tensor:
    """(2, heads, head_dim): of each dimension's query and key, and of its value and its reader."""
    shape = head_shape(attention)
    query, key, value = _rows(attention.qkv, power).unflatten(0, (3, *shape))
    value = value + _columns(attention.proj, power).unflatten(0, shape)
    if (kv_global := getattr(attention, "kv_global", None)) is not None:
        of_key, of_value = _rows(kv_global, power).unflatten(0, (2, *shape))
        key = key + of_key
        value = value + of_value + _columns(kv_global, power).unflatten(0, shape)
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


def _sides(model: nn.Module, part: str) -> dict[str, tuple[nn.Module, str]]:
    """Layer -> module, and the side of it on which the units stand."""
    if part == "embedding":
        norms = [part for part in stream(model).norms if isinstance(part, nn.LayerNorm)]
        return {str(place): (norm, "input") for place, norm in enumerate(norms)}
    if part == "blocks":
        return {name: (model.get_submodule(name), "change") for name in block_names(model)}
    layers = mlps(model) if part == "mlp" else attentions(model)
    leaf = {"mlp": "fc2", "heads": "proj", "head_width": "qkv"}[part]
    side = "output" if part == "head_width" else "input"
    return {name: (getattr(layer, leaf), side) for name, layer in layers.items()}


def _effects(model: nn.Module, part: str, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Layer -> (pictures, units...): first-order change of each picture's loss without the unit."""
    found = products(model, _sides(model, part), inputs, labels)
    if part == "mlp":
        return found
    if part == "embedding":
        return {"embedding": sum(found.values())}
    if part == "blocks":
        return {name: value.sum(1) for name, value in found.items()}
    shapes = {name: head_shape(attention) for name, attention in attentions(model).items()}
    if part == "heads":
        return {name: value.unflatten(1, shapes[name]).sum(2) for name, value in found.items()}
    # The effect of a query's dimension is that of its key's: scores depend on their product alone.
    return {name: value.unflatten(1, (3, *shapes[name]))[:, [0, 2]]
            for name, value in found.items()}


def _of_activation(model: nn.Module, part: str, inputs: Tensor,
                   magnitudes: Mapping[str, Tensor], importance: str) -> dict[str, Tensor]:
    """Mean |value| of each unit, or its std, times its reader's norm; of a block its change."""
    if importance != "activation" and part == "blocks":
        raise LabError(f'prune_blocks: {importance=} is for units with a value of their own; a '
                       'block has a stream of them: give "activation", how much it changes them')
    if importance == "flap" and part not in ("mlp", "heads"):
        raise LabError(f'prune_{part}: importance="flap" is for neurons and heads; give "std"')
    found = (sizes if importance == "activation" else spreads)(model, _sides(model, part), inputs)
    if part == "blocks":
        return found
    if part == "embedding":
        return {"embedding": sum(found.values()) * magnitudes["embedding"]}
    layers = mlps(model) if part == "mlp" else attentions(model)
    for name, layer in layers.items():
        reads = _columns(layer.fc2 if part == "mlp" else layer.proj, 2).sqrt()
        if importance == "flap":
            found[name] = _standardised((found[name] * reads).pow(2 if part == "mlp" else 4))
            if part == "heads":
                found[name] = found[name].unflatten(0, head_shape(layer)).mean(1)
        elif part == "mlp":
            found[name] = found[name] * reads
        elif part == "heads":
            found[name] = (found[name] * reads).unflatten(0, head_shape(layer)).sum(1)
        else:
            query, key, value = found[name].unflatten(0, (3, -1))
            dims = torch.stack([query * key, value * reads])
            found[name] = dims.unflatten(1, head_shape(layer))
    return found


def _standardised(values: Tensor) -> Tensor:
    """Values (n,) of one layer less their mean, over their deviation; 0 where all are alike."""
    apart = values - values.mean()
    return apart / apart.std().clamp_min(torch.finfo(values.dtype).tiny)
