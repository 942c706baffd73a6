"""Relevance: attention weighted by its gradient, head by head, so that a map is about one class.

Chefer, Gur and Wolf, Generic Attention-model Explainability, arXiv 2103.15679, equations 5 and 6
(self-attention); the earlier form of the same authors, arXiv 2012.09838, has the attention's
layer-wise relevance in place of the attention. Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import plain_numbers, require_choice, require_logits
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, cast, on_device
from ..runtime.wrapped import unwrapped
from .layerwise import attention_relevance
from .passes import Target, reentrant_error, refusing_reentrant, require_target

RULES = ("attention", "layerwise")


@plain_numbers
def relevance(model: nn.Module, inputs: Tensor, target: Target = None,
              rule: str = "attention") -> Tensor:
    """How much each input token (column) bears on each output token (row): (batch, N, N).

    `target` is a class for all pictures, one for each, or None: the class that the model predicts.
    Through the blocks, R <- R + mean over heads of (gradient * attention, where positive) @ R, from
    the identity; with rule="layerwise", gradient * relevance of the attention
    (`layerwise.attention_relevance`; the lab's ViT alone). The model runs in eval mode with its
    fused attention on; its parameters get no gradient. Float32, on the device of `inputs`. Raises
    LabError for targets out of range, unknown rules, models whose attention is not one square of
    weights a head, and where the model's own checkpointing lets no gradient pass.
    """
    require_choice("relevance", "rule", rule, RULES)
    weights, gradients, classes = attention_gradients(model, inputs, target)
    if rule == "layerwise":
        weights = [part.to(gradients[0]) for part in attention_relevance(model, inputs, classes)]
    return propagate(weights, gradients).to(inputs.device)


def propagate(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The rule of `relevance` on given weights and gradients, (batch, heads, N, N) per block.

    The weights are those of attention, or their relevance.
    """
    flow = torch.eye(weights[0].shape[-1], device=weights[0].device).expand(len(weights[0]), -1, -1)
    with cast("float32", flow.device):
        for block_weights, gradient in zip(weights, gradients, strict=True):
            flow = flow + (block_weights * gradient).float().clamp_min(0).mean(dim=1) @ flow
    return flow


@plain_numbers
def attention_gradients(model: nn.Module, inputs: Tensor, target: Target = None
                        ) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Attention weights of every block, gradients of the target's logit by them, and the target.

    Weights and gradients are (batch, heads, N, N), the target (batch,), all where the model runs.
    Fused attention never forms the weights, but mixed = weights @ values, so their gradient is that
    of `mixed`, which is formed, times the values.
    """
    model = unwrapped(model)
    weights, values, mixed = [], [], []
    hooks = _mixing_hooks(model, weights, values, mixed)
    with (on_device(model, grad=True, precision="float32") as place, hooked(hooks),
          refusing_reentrant("relevance", model)):
        logits = model(as_input(model, inputs.detach().clone()).to(place).requires_grad_())
        classes = require_target("relevance", target, require_logits("relevance", model, logits))
        if not all(part.requires_grad for part in mixed):
            raise reentrant_error("relevance", model)
        slopes = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), mixed)
        gradients = [_by_weights(slope.float(), value.float())
                     for slope, value in zip(slopes, values)]
    return weights, gradients, classes


def _by_weights(slope: Tensor, values: Tensor) -> Tensor:
    """Gradient by what heads mixed (B, N, heads * head_dim) -> by the weights (B, heads, N, N)."""
    return slope.unflatten(-1, (values.shape[1], -1)).transpose(1, 2) @ values.transpose(-2, -1)


def _mixing_hooks(model: nn.Module, weights: list[Tensor], values: list[Tensor],
                  mixed: list[Tensor]) -> list[Hook]:
    """Hooks that append, at each attention module of a forward, what its heads mix.

    Weights (B, heads, N, N), values (B, heads, N, head_dim), and their product, side by side (B, N,
    heads * head_dim), which alone is part of the graph.
    """
    @torch.no_grad()
    def before(values_of: Callable[[Tensor], Tensor], module: nn.Module, arguments: tuple,
               keywords: dict[str, Any]) -> None:
        weights.append(timm_parts.attention_weights(module, *arguments, **keywords))
        values.append(values_of((*arguments, *keywords.values())[0]))

    def mixing(_: nn.Module, arguments: tuple, __: dict[str, Any]) -> None:
        mixed.append(arguments[0])

    hooks = []
    for module in timm_parts.attention_modules(model).values():
        values_of, mixer = timm_parts.values_and_mixed(module)
        hooks += [Hook(module, "input", partial(before, values_of)), Hook(mixer, "input", mixing)]
    return hooks
