"""What a model makes of a batch: logits, outputs of its blocks, attention; with gradients if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, require_logits, require_range, require_whole
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.wrapped import unwrapped


@dataclass
class ModelOutputs:
    """The outputs of one model for one batch, in float32.

    `logits` (B, classes); `token_logits` (B, classes) are those of the distillation token's head,
    where the model has one (then `logits` are those of the class token's head). `features` has the
    output of each wanted layer: tokens (B, N, D), of which the first `prefix` stand for no patch,
    or maps (B, C, h, w). `attention` has weights (B, heads, N, N). Layers are 0-based blocks, or
    stages where there are none, by the number that was given: -1 is the last. `grids` are the
    (rows, columns) that the model names for the patches of these pictures; patches that form none
    of them may be taken for a square if `square`.
    """

    logits: Tensor
    token_logits: Tensor | None = None
    features: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    prefix: int = 0
    grids: Sequence[tuple[int, int]] = ()
    square: bool = True

    @property
    def taught_logits(self) -> Tensor:
        """The logits that a teacher teaches: those of the distillation token, if there is one."""
        return self.logits if self.token_logits is None else self.token_logits

    def maps(self, layer: int) -> Tensor:
        """Features of a layer as maps (B, C, h, w); image tokens must form a grid."""
        features = self.features[layer]
        if features.ndim == 4:
            return features
        grid = self.grid(f"features of layer {layer}", features.shape[1])
        return features[:, self.prefix :].transpose(1, 2).unflatten(2, grid)

    def tokens(self, layer: int) -> Tensor:
        """Features of a layer as image tokens (B, N, D), row by row, without those in front."""
        features = self.features[layer]
        return features[:, self.prefix :] if features.ndim == 3 else features.flatten(2).transpose(1, 2)

    def named_grid(self, tokens: int) -> tuple[int, int] | None:
        """(rows, columns) of the patches among `tokens`, if the model names their grid."""
        patches = tokens - self.prefix
        return next((grid for grid in self.grids if grid[0] * grid[1] == patches), None)

    def grid(self, what: str, tokens: int) -> tuple[int, int]:
        """(rows, columns) of the patches among `tokens`; LabError, about `what`, if they form none."""
        side = isqrt(max(tokens - self.prefix, 0))
        if (named := self.named_grid(tokens)) is not None:
            return named
        if self.square and 0 < side * side == tokens - self.prefix:
            return side, side
        grids = " or ".join(f"{rows} x {columns}" for rows, columns in self.grids)
        raise LabError(f"{what}: {tokens} tokens, {self.prefix} of them in front, form no "
                       f"{f'grid of {grids}' if grids else 'square'}; take a model that keeps all its tokens "
                       "and has a method grids(height, width) -> [(rows, columns)], or an objective that "
                       "needs no grid: Similarity, Relational, SoftTargets")


def collect_outputs(model: nn.Module, inputs: Tensor, features: Sequence[int] = (),
                    attention: Sequence[int] = ()) -> ModelOutputs:
    """Run `model` on `inputs` (B, 3, H, W) and collect outputs, of these layers too.

    Both heads of a model with a distillation token are collected, which it runs in train mode only.
    Raises LabError on layers that the model does not have, and on a model whose layers or attention
    cannot be read.
    """
    model, outputs = unwrapped(model), ModelOutputs(inputs)
    hooks = _feature_hooks(model, features, outputs) + _attention_hooks(model, attention, outputs)
    with hooked(hooks), timm_parts.both_heads(model):
        logits = model(inputs)
    _require_outputs(model, hooks, features, attention, outputs)
    if outputs.attention or any(value.ndim == 3 for value in outputs.features.values()):
        outputs.prefix = timm_parts.num_prefix_tokens(model)
        _read_grids(model, inputs, outputs)
    if isinstance(logits, tuple) and len(logits) == 2 and all(isinstance(part, Tensor) for part in logits):
        logits, outputs.token_logits = logits[0], logits[1].float()
    # features of a model without a head may be wanted
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        require_logits("distill", model, logits)
    outputs.logits = logits.float()
    return outputs


def _read_grids(model: nn.Module, inputs: Tensor, outputs: ModelOutputs) -> None:
    """Set `grids` and `square`; stages may have fewer patches each than the model's own grid."""
    outputs.square = inputs.shape[-2] == inputs.shape[-1]
    try:
        outputs.grids = [*outputs.grids, *timm_parts.grids(model, inputs)]
        outputs.square = outputs.square and not hasattr(model, "blocks")
    except LabError:        # a model that names no grid
        pass


def _feature_hooks(model: nn.Module, layers: Sequence[int], outputs: ModelOutputs) -> list[Hook]:
    """Hooks that collect the outputs of these layers."""
    def collect(layer: int, _module: nn.Module, _given: tuple, _keywords: dict, output: Any) -> None:
        output, *rest = output if isinstance(output, tuple) else (output,)
        outputs.grids = [*outputs.grids, *filter(_is_grid, rest)]   # stages may pass their grid on
        outputs.features[layer] = _channels_second(model, output)

    blocks = timm_parts.blocks(model) if layers else []
    return [Hook(_at(model, blocks, layer), "output", partial(collect, layer)) for layer in layers]


def _is_grid(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(side, int) for side in value)


def _attention_hooks(model: nn.Module, layers: Sequence[int], outputs: ModelOutputs) -> list[Hook]:
    """Hooks that collect the attention weights of these layers."""
    def collect(layer: int, module: nn.Module, given: tuple, keywords: dict[str, Any]) -> None:
        weights = timm_parts.attention_weights(module, *given, **keywords)
        if isinstance(weights, dict):
            raise LabError(f"distill: {type(model).__name__} attends in several ways ({', '.join(weights)}), not by "
                           "one square of weights for each head; AttentionTransfer compares its maps")
        outputs.attention[layer] = weights

    try:
        modules = list(timm_parts.attention_modules(model).values()) if layers else []
    except LabError as error:
        raise LabError(f"distill: {error}; AttentionTransfer compares maps of any network") from error
    return [Hook(_at(model, modules, layer), "input", partial(collect, layer)) for layer in layers]


def _at(model: nn.Module, modules: Sequence[nn.Module], layer: int) -> nn.Module:
    """The module of a layer; LabError unless it is a whole number within their range."""
    caller = f"distill: a layer of {type(model).__name__}"
    return modules[require_whole(caller, "layer", layer, -len(modules), len(modules) - 1)]


def _channels_second(model: nn.Module, output: Any) -> Tensor:
    """Features as tokens (B, N, D) or maps (B, C, h, w), in float32; LabError on what is neither."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        kind = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise LabError(f"distill: a layer of {type(model).__name__} puts out features of {kind}; tokens "
                       "(B, N, D) and maps (B, C, h, w) can be compared")
    # timm's Swin and its kin
    last = output.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC"
    return (output.permute(0, 3, 1, 2) if last else output).float()


def _require_outputs(model: nn.Module, hooks: Sequence[Hook], features: Sequence[int],
                     attention: Sequence[int], outputs: ModelOutputs) -> None:
    """Raise LabError if a layer did not run, or ran without gradients though it is trained."""
    wanted = [*((outputs.features, layer) for layer in features), *((outputs.attention, layer) for layer in attention)]
    for hook, (collected, layer) in zip(hooks, wanted):
        if layer not in collected:
            what = "features" if collected is outputs.features else "attention"
            raise LabError(f"distill: {type(model).__name__} showed no {what} of layer {layer}: its forward does not "
                           "call that module; give the model before torch.compile, and distill before exits or a "
                           "trunk that skips")
        trained = torch.is_grad_enabled() and any(value.requires_grad for value in hook.module.parameters())
        if trained and not collected[layer].requires_grad:
            raise LabError(f"distill: {type(model).__name__} runs a compared layer inside torch.utils.checkpoint with "
                           "use_reentrant=True, which hides its gradients; give use_reentrant=False there")
