"""Relevance: attention weighted by its gradient, head by head, so that a map is about one class.

Chefer, Gur and Wolf, Generic Attention-model Explainability, arXiv 2103.15679, equations 5 and 6
(self-attention); the earlier form of the same authors, arXiv 2012.09838, has the attention's
layer-wise relevance in place of the attention. Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_choice, require_logits
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, cast, on_device
from ..runtime.wrapped import unwrapped
from .layerwise import attention_relevance

RULES = ("attention", "layerwise")
Target = Tensor | Sequence[int] | int | None


class Passage(NamedTuple):
    """What one attention module did in a forward: its weights, its values, and what its heads mixed
    of them.
    """

    weights: Tensor   # (B, heads, N, N)
    values: Tensor    # (B, heads, N, head_dim)
    mixed: Tensor     # (B, N, heads * head_dim), part of the graph


@plain_numbers
def relevance(model: nn.Module, inputs: Tensor, target: Target = None,
              rule: str = "attention") -> Tensor:
    """How much each first token bears on each last one, for the class `target`; (batch, N, N), a
    row for a last one.

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
    """The rule of `relevance` on given attention (or its relevance) and gradients, (batch, heads,
    N, N) per block.
    """
    flow = torch.eye(weights[0].shape[-1], device=weights[0].device).expand(len(weights[0]), -1, -1)
    with cast("float32", flow.device):
        for block_weights, gradient in zip(weights, gradients, strict=True):
            flow = flow + (block_weights * gradient).float().clamp_min(0).mean(dim=1) @ flow
    return flow


@plain_numbers
def attention_gradients(model: nn.Module, inputs: Tensor, target: Target = None
                        ) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Attention weights of every block, the gradients of the target's logit by them, (batch, heads,
    N, N) each, and the target itself, (batch,); all where the model runs.

    Fused attention never forms the weights, but mixed = weights @ values, so their gradient is that
    of `mixed`, which is formed, times the values.
    """
    model, passages = unwrapped(model), []
    hooks = list(_watching(model, passages))
    with (on_device(model, grad=True, precision="float32") as place, hooked(hooks),
          refusing_reentrant("relevance", model)):
        logits = model(as_input(model, inputs.detach().clone()).to(place).requires_grad_())
        classes = require_target("relevance", target, require_logits("relevance", model, logits))
        score = logits.gather(1, classes[:, None]).sum()
        _require_graph(model, passages)
        slopes = torch.autograd.grad(score, [passage.mixed for passage in passages])
        gradients = [_by_weights(slope.float(), passage.values.float()) for slope, passage in zip(slopes, passages)]
    return [passage.weights for passage in passages], gradients, classes


def _by_weights(slope: Tensor, values: Tensor) -> Tensor:
    """The gradient by the weights, (B, heads, N, N), from that by what they mixed, (B, N, heads *
    head_dim).
    """
    return slope.unflatten(-1, (values.shape[1], -1)).transpose(1, 2) @ values.transpose(-2, -1)


def _watching(model: nn.Module, found: list[Passage]) -> Iterator[Hook]:
    """Hooks that fill `found` with a `Passage` per attention module during a forward."""
    seen: list[tuple[Tensor, Tensor]] = []
    for module in timm_parts.attention_modules(model).values():
        values, mixer = timm_parts.values_and_mixed(module)

        @torch.no_grad()
        def before(module: nn.Module, given: tuple, keywords: dict[str, Any],
                   values: Any = values) -> None:
            tokens = (*given, *keywords.values())[0]
            seen.append((timm_parts.attention_weights(module, *given, **keywords), values(tokens)))

        def within(_: nn.Module, given: tuple, __: dict[str, Any]) -> None:
            found.append(Passage(*seen.pop(), given[0]))

        yield Hook(module, "input", before)
        yield Hook(mixer, "input", within)


REENTRANT = ("recomputes a part of its forward by torch.utils.checkpoint with use_reentrant=True, which lets no "
              "gradient pass to what is inside; call it with use_reentrant=False")


def _require_graph(model: nn.Module, passages: Sequence[Passage]) -> None:
    if not all(passage.mixed.requires_grad for passage in passages):
        raise LabError(f"relevance: {type(model).__name__} {REENTRANT}")


@contextmanager
def refusing_reentrant(caller: str, model: nn.Module) -> Iterator[None]:
    """Say in a sentence what torch says of gradients through a forward that is recomputed in its
    older form.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, LabError) or "use_reentrant" not in str(error):
            raise
        raise LabError(f"{caller}: {type(model).__name__} {REENTRANT}") from error


def require_target(caller: str, target: Target, logits: Tensor) -> Tensor:
    """`target` as one class a picture, (batch,); None is the predicted one.

    Raises LabError on classes the model lacks.
    """
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
    # one made inside inference_mode can take no part in slopes
    return classes.long().expand(batch).clone()
