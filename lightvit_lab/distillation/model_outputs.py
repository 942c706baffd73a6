"""What a model shows of a batch: logits, the outputs of its blocks, its attention; with gradients
if wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, require_logits, require_range
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.wrapped import unwrapped


@dataclass
class ModelOutputs:
    """What one model showed of one batch, in float32.

    `logits` (B, classes); `token_logits` (B, classes) if the model has a distillation token, whose
    head made them (then `logits` are those of the class token's head). `features` has the output of
    each layer that was asked for, tokens (B, N, D), of which the first `prefix` stand for no patch,
    or maps (B, C, h, w); `attention` has weights (B, heads, N, N). Layers are 0-based blocks, or
    stages where there are none, as they were asked for: -1 is the last. `grids` are those, (rows,
    columns), that the model said its patches form on these pictures; of patches that form none of
    them, `square` says whether they may be taken for a square.
    """

    logits: Tensor
    token_logits: Tensor | None = None
    features: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    prefix: int = 0
    grids: Sequence[tuple[int, int]] = ()
    square: bool = True

    def maps(self, layer: int) -> Tensor:
        """Features of a layer as maps (B, C, h, w); of tokens, the patches alone, which must form a
        grid.
        """
        found = self.features[layer]
        if found.ndim == 4:
            return found
        grid = self.grid(f"features of layer {layer}", found.shape[1])
        return found[:, self.prefix :].transpose(1, 2).unflatten(2, grid)

    def tokens(self, layer: int) -> Tensor:
        """Features of a layer as image tokens (B, N, D), row by row, without those in front."""
        found = self.features[layer]
        return found[:, self.prefix :] if found.ndim == 3 else found.flatten(2).transpose(1, 2)

    def said_grid(self, tokens: int) -> tuple[int, int] | None:
        """(rows, columns) of the patches among `tokens`, where the model said it."""
        return next((grid for grid in self.grids if grid[0] * grid[1] == tokens - self.prefix), None)

    def grid(self, what: str, tokens: int) -> tuple[int, int]:
        """(rows, columns) of the patches among `tokens`. Raises LabError, in the name of `what`, if
        they form none.
        """
        if (said := self.said_grid(tokens)) is not None:
            return said
        side = isqrt(max(tokens - self.prefix, 0))
        if self.square and 0 < side * side == tokens - self.prefix:
            return side, side
        formed = " or ".join(f"{rows} x {columns}" for rows, columns in self.grids)
        formed = f"no grid of {formed}" if formed else "no square"
        raise LabError(f"{what}: {tokens} tokens, {self.prefix} of them in front, form {formed}, so they cannot be "
                       "laid over another grid; take a model that keeps all its tokens and says its grid, by a method "
                       "grids(height, width) -> [(rows, columns)], or an objective that needs no grid: Similarity, "
                       "Relational, SoftTargets")


def collect_outputs(model: nn.Module, inputs: Tensor, features: Sequence[int] = (),
        attention: Sequence[int] = ()) -> ModelOutputs:
    """Run `model` on `inputs` (B, 3, H, W) and return what it showed.

    A model with a distillation token is asked for both of its heads, which it answers in train mode
    only. Raises LabError on layers that the model does not have, and on a model whose layers or
    attention cannot be read.
    """
    model, found = unwrapped(model), ModelOutputs(inputs)
    hooks = [*_feature_hooks(model, features, found), *_attention_hooks(model, attention, found)]
    with hooked(hooks), timm_parts.both_heads(model):
        logits = model(inputs)
    _require_outputs(model, features, attention, found)
    _require_graph(model, hooks, [*found.features.values(), *found.attention.values()])
    tokens = [*(value for value in found.features.values() if value.ndim == 3), *found.attention.values()]
    if tokens:
        found.prefix = timm_parts.num_prefix_tokens(model)
        _ask_grids(model, inputs, found)
    if isinstance(logits, tuple) and len(logits) == 2 and all(isinstance(part, Tensor) for part in logits):
        logits, found.token_logits = logits[0], logits[1].float()
    # features of a model without a head may be wanted
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        require_logits("distill", model, logits)
    found.logits = logits.float()
    return found


def _ask_grids(model: nn.Module, inputs: Tensor, found: ModelOutputs) -> None:
    """What the model says of its patches; a network of stages may make fewer of them in each than
    it says.
    """
    try:
        found.grids = [*found.grids, *timm_parts.grids(model, inputs)]
        in_one_row = hasattr(model, "blocks")
    except LabError:
        in_one_row = False
    found.square = not in_one_row and inputs.shape[-2] == inputs.shape[-1]


def _is_grid(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(side, int) for side in value)


def _feature_hooks(model: nn.Module, layers: Sequence[int], found: ModelOutputs) -> Iterator[Hook]:
    """Hooks that keep the outputs of the layers asked for."""
    blocks = timm_parts.blocks(model) if layers else []
    for layer in layers:

        def keep(_module: nn.Module, _given: tuple, _keywords: dict, output: Tensor | tuple,
                 layer: int = layer) -> None:
            if isinstance(output, tuple):
                output, *rest = output
                # stages that hand their grid on
                found.grids = [*found.grids, *filter(_is_grid, rest)]
            found.features[layer] = _channels_second(model, output)
        yield Hook(_at(model, blocks, layer), "output", keep)


def _attention_hooks(model: nn.Module, layers: Sequence[int], found: ModelOutputs) -> Iterator[Hook]:
    """Hooks that keep the attention weights of the layers asked for."""
    readers = _readers(model) if layers else []
    for layer in layers:

        def keep(module: nn.Module, given: tuple, keywords: dict[str, Any],
                 layer: int = layer) -> None:
            weights = timm_parts.attention_weights(module, *given, **keywords)
            if isinstance(weights, dict):
                raise LabError(f"distill: {type(model).__name__} attends in several ways ({', '.join(weights)}) and "
                               "has no one square of weights a head to compare; AttentionTransfer compares its maps")
            found.attention[layer] = weights
        yield Hook(_at(model, readers, layer), "input", keep)


def _require_graph(model: nn.Module, hooks: Sequence[Hook], shown: Sequence[Tensor]) -> None:
    """Raise LabError where a layer that learns showed values without a gradient, as in a reentrant
    checkpoint.
    """
    learns = [any(value.requires_grad for value in hook.module.parameters()) for hook in hooks]
    if torch.is_grad_enabled() and any(one and not value.requires_grad for one, value in zip(learns, shown)):
        raise LabError(f"distill: {type(model).__name__} runs a layer that is compared inside torch.utils.checkpoint "
                       "with use_reentrant=True, which shows it without gradients; give use_reentrant=False there")


def _channels_second(model: nn.Module, output: Any) -> Tensor:
    """Features as tokens (B, N, D) or maps (B, C, h, w), in float32; raises LabError on what is
    neither.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        shown = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise LabError(f"distill: a layer of {type(model).__name__} puts out features of {shown}; tokens (B, N, D) and "
                       "maps (B, C, h, w) can be compared")
    # timm's Swin and its kin
    last = output.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC"
    return (output.permute(0, 3, 1, 2) if last else output).float()


def _require_outputs(model: nn.Module, features: Sequence[int], attention: Sequence[int],
                  found: ModelOutputs) -> None:
    """Raise LabError if the forward went past a layer: what is compiled or wrapped does not call
    it.
    """
    for what, asked, shown in (("features", features, found.features), ("attention", attention, found.attention)):
        if missing := [layer for layer in asked if layer not in shown]:
            raise LabError(f"distill: {type(model).__name__} showed no {what} of layer {missing[0]}: its forward does "
                           "not call that module; give the model before torch.compile, and distill before exits "
                           "or a trunk that skips")


def _readers(model: nn.Module) -> list[nn.Module]:
    try:
        return list(timm_parts.attention_modules(model).values())
    except LabError as error:
        raise LabError(f"distill: {error}; AttentionTransfer compares where any network looks") from error


def _at(model: nn.Module, modules: Sequence[nn.Module], layer: int) -> nn.Module:
    require_range(f"distill: a layer of {type(model).__name__}", "layer", layer, -len(modules), len(modules) - 1)
    if int(layer) != layer:
        raise LabError(f"distill: layer={layer!r}; layers are whole numbers, from 0, or from the end as -1")
    return modules[layer]
