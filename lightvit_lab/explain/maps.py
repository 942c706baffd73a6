"""Maps over the picture out of attention: one call each, (model, inputs, target) -> (batch, rows, columns)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import timm_parts
from ..profiling.splitting import evaluating
from .recording import record_attention
from .relevance import relevance
from .rollout import rollout

Target = Tensor | Sequence[int] | int | None


def class_attention(model: nn.Module, inputs: Tensor, target: Target = None, block: int = -1) -> Tensor:
    """The class token's attention to each patch in one block, heads averaged: (batch, rows, columns). `target` is not used.

    Without a class token, the mean over all looking tokens.
    """
    maps = _recorded(model, inputs)
    return image_part(model, inputs, maps[block].mean(dim=1))


def rollout_map(model: nn.Module, inputs: Tensor, target: Target = None, **settings: Any) -> Tensor:
    """Of which patches the class token is made, by `rollout(**settings)`: (batch, rows, columns). `target` is not used."""
    return image_part(model, inputs, rollout(_recorded(model, inputs), **settings))


def relevance_map(model: nn.Module, inputs: Tensor, target: Target = None, rule: str = "attention") -> Tensor:
    """The relevance of each patch to the class `target`, by `relevance`: (batch, rows, columns)."""
    return image_part(model, inputs, relevance(model, inputs, target, rule))


def image_part(model: nn.Module, inputs: Tensor, token_map: Tensor) -> Tensor:
    """The rows of `token_map` (batch, N, N) that belong to the tokens the head reads, their mean, as a grid over the
    picture: (batch, rows, columns), what tokens in front get left out.

    Raises LabError if the tokens form no grid.
    """
    prefix, rows, columns = timm_parts.layout(model, inputs, token_map.shape[-1])
    return timm_parts.read_by_head(model, token_map)[:, prefix:].unflatten(1, (rows, columns))


@torch.no_grad()
def _recorded(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    with evaluating(model), record_attention(model) as maps:
        model(inputs)
    return maps
