"""Relevance: attention weighted by its gradient, head by head, so that a map is about one class.

Chefer, Gur and Wolf, Generic Attention-model Explainability, arXiv 2103.15679, equations 5 and 6 (self-attention); the
earlier form of the same authors, arXiv 2012.09838, has the attention's layer-wise relevance in place of the attention.
Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import LabError, require_choice
from ..models import timm_parts
from ..profiling.splitting import evaluating
from .layerwise import attention_relevance

RULES = ("attention", "layerwise")


class _Passage(NamedTuple):
    """What one attention module did in a forward: its weights, its values, and what its heads mixed of them."""

    weights: Tensor   # (B, heads, N, N)
    values: Tensor    # (B, heads, N, head_dim)
    mixed: Tensor     # (B, N, heads * head_dim), part of the graph


def relevance(model: nn.Module, inputs: Tensor, target: Tensor | Sequence[int] | int | None = None,
              rule: str = "attention") -> Tensor:
    """How much each first token bears on each last one, for the class `target`; (batch, N, N), row 0 for the class token.

    `target` is a class for all pictures, one for each, or None: the class that the model predicts. Through the blocks,
    R <- R + mean over heads of (gradient * attention, where positive) @ R, from the identity; with rule="layerwise",
    gradient * relevance of the attention (`layerwise.attention_relevance`; the lab's ViT alone). The model runs in eval
    mode with its fused attention on; its parameters get no gradient. Raises LabError for targets out of range, unknown
    rules, and models whose attention is not one square of weights a head.
    """
    require_choice("relevance", "rule", rule, RULES)
    weights, gradients, classes = attention_gradients(model, inputs, target)
    return propagate(attention_relevance(model, inputs, classes) if rule == "layerwise" else weights, gradients)


def propagate(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The rule of `relevance` on given attention (or its relevance) and gradients, (batch, heads, N, N) per block."""
    flow = torch.eye(weights[0].shape[-1], device=weights[0].device).expand(len(weights[0]), -1, -1)
    for block_weights, gradient in zip(weights, gradients, strict=True):
        flow = flow + (block_weights * gradient).clamp_min(0).mean(dim=1) @ flow
    return flow


def attention_gradients(model: nn.Module, inputs: Tensor, target: Tensor | Sequence[int] | int | None = None,
                        ) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Attention weights of every block, the gradients of the target's logit by them, (batch, heads, N, N) each, and the
    target itself, (batch,).

    Fused attention never forms the weights, but mixed = weights @ values, so their gradient is that of `mixed`, which is
    formed, times the values.
    """
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model), _passages(model) as passages:
        logits = model(inputs.detach().clone().requires_grad_())
        classes = require_target("relevance", target, logits)
        score = logits.gather(1, classes[:, None]).sum()
        slopes = torch.autograd.grad(score, [passage.mixed for passage in passages])
    gradients = [slope.unflatten(-1, (passage.values.shape[1], -1)).transpose(1, 2) @ passage.values.transpose(-2, -1)
                 for slope, passage in zip(slopes, passages)]
    return [passage.weights for passage in passages], [gradient.float() for gradient in gradients], classes


@contextmanager
def _passages(model: nn.Module) -> Iterator[list[_Passage]]:
    """A list that fills with a `_Passage` per attention module during a forward. The hooks leave at the end."""
    found: list[_Passage] = []
    seen: list[tuple[Tensor, Tensor]] = []
    handles = []

    def watch(module: nn.Module) -> None:
        values, mixer = timm_parts.values_and_mixed(module)

        @torch.no_grad()
        def before(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            seen.append((timm_parts.attention_weights(module, *arguments, **keywords), values(arguments[0])))

        def within(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            found.append(_Passage(*seen.pop(), arguments[0]))

        handles.extend([module.register_forward_pre_hook(before, with_kwargs=True), mixer.register_forward_pre_hook(within)])

    try:
        for module in timm_parts.attention_modules(model).values():
            watch(module)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def require_target(caller: str, target: Tensor | Sequence[int] | int | None, logits: Tensor) -> Tensor:
    """`target` as one class a picture, (batch,); None is the predicted one. Raises LabError on classes the model lacks."""
    if target is None:
        return logits.argmax(dim=1)
    classes = torch.as_tensor(target, device=logits.device)
    batch, count = logits.shape
    if classes.is_floating_point() or classes.shape not in ((), (batch,)):
        raise LabError(f"{caller}: target={target!r}; give a class number, one for each of the {batch} pictures, or None for "
                       "the class that the model predicts")
    if ((classes < 0) | (classes >= count)).any():
        wrong = classes.flatten()[((classes < 0) | (classes >= count)).flatten()][0].item()
        raise LabError(f"{caller}: target {wrong} is out of range; the model has {count} classes, 0 to {count - 1}")
    return classes.long().expand(batch)
