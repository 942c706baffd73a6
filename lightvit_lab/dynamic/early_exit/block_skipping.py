"""Blocks that pictures may skip: a gate before a block says which pictures go through it.

The idea of depth in AdaViT (arXiv 2111.15668), whose policies also choose patches and heads. In
eval mode a block computes only the pictures that its gate lets in. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_range
from ...models.timm_parts import (WrappedBlock, reads_class_token, require_plain_blocks,
                                  require_plain_vit)
from ...models.transforming import Plan, transform, transformed
from ...runtime.hooks import Hook, hooked
from ...training import Batch, History, fit, label_loss
from ..layers import listed, require_layers

MAX_START = 20.0         # beyond it a gate's sigmoid is 0 or 1 in float32, and learns nothing
CALLER = "add_skipping"


class SkipGate(nn.Module):
    """Tokens (batch, tokens, dim) -> (batch,), 1 for pictures that go through the block, else 0.

    One linear layer on the class token, or on the mean of all where the head reads that. In train
    mode the choice is drawn (Gumbel noise, arXiv 1611.01144), and gradients pass it as if it were
    the sigmoid.
    """

    def __init__(self, dim: int, start: float, class_token: bool):
        super().__init__()
        self.class_token, self.score = class_token, nn.Linear(dim, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, start)

    def forward(self, tokens: Tensor) -> Tensor:
        one = tokens[:, 0] if self.class_token else tokens.mean(1)
        score = self.score(F.layer_norm(one, one.shape[-1:]))[:, 0]
        if not self.training:
            return (score > 0).to(score)
        uniform = torch.rand_like(score, dtype=torch.float32).clamp(1e-6, 1 - 1e-6)
        soft = (score.float() + uniform.logit()).sigmoid().to(score)
        return (soft > 0.5).to(score) + soft - soft.detach()


class SkipBlock(WrappedBlock):
    """A block behind a gate, called as the block. In eval mode pictures that skip cost nothing.

    On a GPU each gate waits for the device, since the pictures that go in have to be known before.
    """

    def __init__(self, block: nn.Module, gate: SkipGate):
        super().__init__(block)
        self.gate = gate

    def forward(self, tokens: Tensor) -> Tensor:
        goes = self.gate(tokens)
        if self.training:
            return tokens + goes[:, None, None] * (self.block(tokens) - tokens)
        index = goes.nonzero()[:, 0]
        if len(index) == 0:
            return tokens
        if len(index) == len(tokens):
            return self.block(tokens)
        return tokens.index_copy(0, index, self.block(tokens[index]))


@plain_numbers
def add_skipping(model: nn.Module, layers: Sequence[int], start: float = 3.0) -> nn.Module:
    """A copy of `model` with a gate before each of its 0-based blocks `layers`.

    With `start` > 0 all pictures go through at first and the logits stay; in train mode a share
    sigmoid(-start) is drawn to skip. `train_skipping` trains the gates. Raises LabError on layers
    out of range or given twice, and on other models than the lab's ViT and timm's ViT and DeiT.
    """
    plan = {"transform": "block_skipping", "layers": listed(layers), "start": start}
    return transformed(model, plan, apply_skipping)


@transform("block_skipping")
def apply_skipping(model: nn.Module, plan: Plan) -> nn.Module:
    """Put gates before the blocks of `plan`: {"layers": [1, 2], "start": 3.0}."""
    require_plain_vit(CALLER, model)
    layers = require_layers(CALLER, plan.get("layers"), len(model.blocks) - 1)
    require_plain_blocks(CALLER, model, layers)
    start = require_range(CALLER, "start", plan.get("start"), -MAX_START, MAX_START)
    for layer in layers:
        gate = SkipGate(model.head.in_features, start, reads_class_token(model))
        gate.to(next(model.parameters()))
        model.blocks[layer] = SkipBlock(model.blocks[layer], gate)
    return model


@plain_numbers
@dataclass(frozen=True)
class SkipObjective:
    """The labels' loss, and `weight` (share that goes through gated blocks - `share`)^2."""

    share: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_range("SkipObjective", "share", self.share, 0, 1)
        require_range("SkipObjective", "weight", self.weight, 0)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        went: list[Tensor] = []

        def record(_gate: nn.Module, _inputs: tuple, _keywords: dict, goes: Tensor) -> None:
            went.append(goes)

        with hooked([Hook(gate, "output", record) for gate in _gates(model)]):
            logits = model(batch.inputs)
        labels = label_loss(logits, batch)
        use = self.weight * (torch.stack(went).float().mean() - self.share) ** 2
        return labels + use, logits, {"labels": labels, "use": use}


def train_skipping(model: nn.Module, data: Pictures, objective: SkipObjective | None = None,
                   **settings: Any) -> History:
    """Train `model` and its gates in place on `data` by `training.fit`, whose `settings` are taken.

    Raises LabError if it has no gates.
    """
    if not _gates(model):
        raise LabError(f"train_skipping: {type(model).__name__} has no gates; "
                       "add_skipping(model, layers) gives it some")
    return fit(model, data, objective=objective or SkipObjective(), **settings)


def _gates(model: nn.Module) -> list[SkipGate]:
    """The gates of `model`, in order."""
    return [part for part in model.modules() if isinstance(part, SkipGate)]
