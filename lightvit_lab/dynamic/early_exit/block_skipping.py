"""Attention and MLPs that pictures may skip: gates before a block say which pictures go through.

The layer policy of AdaViT (arXiv 2111.15668), whose other two choose patches and heads. In eval
mode attention and MLP compute only the pictures that their gate lets in. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_range, require_whole
from ...models.timm_parts import (WrappedBlock, reads_class_token, require_plain_blocks,
                                  require_plain_vit)
from ...models.transforming import Plan, transform, transformed
from ...runtime.hooks import Hook, hooked
from ...training import Batch, History, fit, label_loss
from ..layers import listed, require_layers

MAX_START = 20.0         # beyond it a gate's sigmoid is 0 or 1 in float32, and learns nothing
CALLER = "add_skipping"


class SkipGate(nn.Module):
    """Tokens (batch, tokens, dim) -> (batch, gates), 1 for pictures that go through, else 0.

    One linear layer on the class token, or on the mean of all where the head reads that. In train
    mode the choice is drawn (Gumbel noise, arXiv 1611.01144), and gradients pass it as if it were
    the sigmoid.
    """

    def __init__(self, dim: int, start: float, class_token: bool, gates: int):
        super().__init__()
        self.class_token, self.score = class_token, nn.Linear(dim, gates)
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, start)

    def forward(self, tokens: Tensor) -> Tensor:
        one = tokens[:, 0] if self.class_token else tokens.mean(1)
        score = self.score(F.layer_norm(one, one.shape[-1:]))
        if not self.training:
            return (score > 0).to(score)
        uniform = torch.rand_like(score, dtype=torch.float32).clamp(1e-6, 1 - 1e-6)
        soft = (score.float() + uniform.logit()).sigmoid().to(score)
        return (soft > 0.5).to(score) + soft - soft.detach()


class SkipBlock(WrappedBlock):
    """A block behind its gates, called as the block. In eval mode what is skipped costs nothing.

    On a GPU each gate waits for the device, since the pictures that go in have to be known before.
    """

    def __init__(self, block: nn.Module, gate: SkipGate):
        super().__init__(block)
        self.gate = gate

    def forward(self, tokens: Tensor) -> Tensor:
        goes = self.gate(tokens)
        if not self.training and goes.all():
            return self.block(tokens)
        run = _run_all if self.training else _run_chosen
        for chosen, branch in zip(goes.expand(-1, 2).T, (self._attention, self._mlp)):
            tokens = run(branch, tokens, chosen)
        return tokens

    def _attention(self, tokens: Tensor) -> Tensor:
        return _scaled(self.block, "1", self.block.attn(self.block.norm1(tokens)))

    def _mlp(self, tokens: Tensor) -> Tensor:
        return _scaled(self.block, "2", self.block.mlp(self.block.norm2(tokens)))


def _scaled(block: nn.Module, which: str, added: Tensor) -> Tensor:
    """What a branch adds, after timm's scale and dropped paths, where `block` has them."""
    for name in (f"ls{which}", f"drop_path{which}"):
        added = getattr(block, name, nn.Identity())(added)
    return added


def _run_all(branch: Callable[[Tensor], Tensor], tokens: Tensor, chosen: Tensor) -> Tensor:
    """`tokens`, and what `branch` adds times `chosen` (batch,), so that gradients reach a gate."""
    return tokens + chosen[:, None, None] * branch(tokens)


def _run_chosen(branch: Callable[[Tensor], Tensor], tokens: Tensor, chosen: Tensor) -> Tensor:
    """The same, with only those pictures computed that are `chosen`."""
    index = chosen.nonzero()[:, 0]
    if len(index) == 0:
        return tokens
    if len(index) == len(tokens):
        return tokens + branch(tokens)
    return tokens.index_add(0, index, branch(tokens[index]))


@plain_numbers
def add_skipping(model: nn.Module, layers: Sequence[int], start: float = 3.0,
                 gates: int = 2) -> nn.Module:
    """A copy of `model` with gates before its 0-based blocks `layers`, for attention and for MLP.

    With `start` > 0 all pictures go through at first and the logits stay; in train mode a share
    sigmoid(-start) is drawn to skip. With `gates=1` a picture skips both parts of a block or none.
    `train_skipping` trains the gates. Raises LabError on layers out of range or given twice, and on
    other models than the lab's ViT and timm's ViT and DeiT.
    """
    plan = {"transform": "block_skipping", "layers": listed(layers), "start": start, "gates": gates}
    return transformed(model, plan, apply_skipping)


@transform("block_skipping")
def apply_skipping(model: nn.Module, plan: Plan) -> nn.Module:
    """Put gates before the blocks of `plan`: {"layers": [1, 2], "start": 3.0, "gates": 2}.

    Models were first saved with one gate a block, and without "gates".
    """
    require_plain_vit(CALLER, model)
    layers = require_layers(CALLER, plan.get("layers"), len(model.blocks) - 1)
    require_plain_blocks(CALLER, model, layers)
    start = require_range(CALLER, "start", plan.get("start"), -MAX_START, MAX_START)
    gates = require_whole(CALLER, "gates", plan.get("gates", 1), 1, 2)
    for layer in layers:
        gate = SkipGate(model.head.in_features, start, reads_class_token(model), gates)
        gate.to(next(model.parameters()))
        model.blocks[layer] = SkipBlock(model.blocks[layer], gate)
    return model


@plain_numbers
@dataclass(frozen=True)
class SkipObjective:
    """The labels' loss, and `weight` (share of gates that pictures pass - `share`)^2."""

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
