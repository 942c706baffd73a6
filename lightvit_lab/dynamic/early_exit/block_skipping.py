"""Blocks that pictures may skip: a gate in front of a block says which pictures go through it.

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
from ...models.timm_parts import WrappedBlock, reads_class_token, require_plain_blocks, require_plain_vit
from ...models.transforming import Plan, transform, transformed
from ...runtime.hooks import Hook, hooked
from ...training import Batch, History, fit, label_loss

STEEPEST = 20.0          # beyond it a gate's sigmoid is 0 or 1 in float32, and learns nothing


class SkipGate(nn.Module):
    """Tokens (batch, tokens, dim) -> (batch,), 1 for pictures that go through the block and 0 for
    those that skip it.

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

    On a GPU each gate waits for the device, since who goes in has to be known before.
    """

    def __init__(self, block: nn.Module, gate: SkipGate):
        super().__init__(block)
        self.gate = gate

    def forward(self, tokens: Tensor) -> Tensor:
        goes = self.gate(tokens)
        if self.training:
            return tokens + goes[:, None, None] * (self.block(tokens) - tokens)
        index = goes.nonzero()[:, 0]
        if index.shape[0] in (0, tokens.shape[0]):
            return self.block(tokens) if index.shape[0] else tokens
        return tokens.index_copy(0, index, self.block(tokens[index]))


@plain_numbers
def add_skipping(model: nn.Module, layers: Sequence[int], start: float = 3.0) -> nn.Module:
    """A copy of `model` whose 0-based blocks `layers` have a gate, which at first says the same to
    all pictures.

    With `start` > 0 all go through and the logits stay; in train mode a share sigmoid(-start) is
    drawn to skip. `train_skipping` teaches the gates. Raises LabError on layers out of range or
    given twice, and on other models than the lab's ViT and timm's ViT and DeiT.
    """
    plan = {"transform": "block_skipping", "layers": list(layers) if isinstance(layers, range | tuple) else layers,
            "start": start}
    _require_layers(model, plan["layers"])
    return transformed(model, plan, apply_skipping)


@transform("block_skipping")
def apply_skipping(model: nn.Module, plan: Plan) -> nn.Module:
    """Put gates before the blocks of `plan`: {"layers": [1, 2], "start": 3.0}."""
    layers, start = plan.get("layers"), plan.get("start")
    _require_layers(model, layers)
    require_range("add_skipping", "start", start, -STEEPEST, STEEPEST)
    dim, like = model.head.in_features, next(model.parameters())
    for layer in layers:
        gate = SkipGate(dim, start, reads_class_token(model)).to(like)
        model.blocks[layer] = SkipBlock(model.blocks[layer], gate)
    return model


@plain_numbers
@dataclass(frozen=True)
class SkipObjective:
    """The labels' loss, and `weight` times (share of pictures that go through gated blocks -
    `share`)^2.
    """

    share: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_range("SkipObjective", "share", self.share, 0, 1)
        require_range("SkipObjective", "weight", self.weight, 0)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        said: list[Tensor] = []

        def record(_gate: nn.Module, _given: tuple, _keywords: dict, answers: Tensor) -> None:
            said.append(answers)

        gates = [part for part in model.modules() if isinstance(part, SkipGate)]
        with hooked([Hook(gate, "output", record) for gate in gates]):
            logits = model(batch.inputs)
        labels = label_loss(logits, batch)
        use = self.weight * (torch.stack(said).float().mean() - self.share) ** 2
        return labels + use, logits, {"labels": labels, "use": use}


def train_skipping(model: nn.Module, data: Pictures, objective: SkipObjective | None = None,
                   **settings: Any) -> History:
    """Train `model` and its gates in place on `data` by `training.fit`. Raises LabError if it has
    no gates.
    """
    if not any(isinstance(part, SkipGate) for part in model.modules()):
        raise LabError(f"train_skipping: {type(model).__name__} has no gates; add_skipping(model, layers) gives "
                       "it some")
    return fit(model, data, objective=objective or SkipObjective(), **settings)


def _require_layers(model: nn.Module, layers: Any) -> None:
    require_plain_vit("add_skipping", model)
    depth = len(model.blocks)
    known = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not known or len(set(layers)) < len(layers) or not 0 <= min(layers) <= max(layers) < depth:
        raise LabError(f"add_skipping: layers={layers!r}; give 0-based blocks 0 to {depth - 1}, each once, as in "
                       f"layers=[{depth - 1}]")
    gated = [layer for layer in layers if isinstance(model.blocks[layer], SkipBlock)]
    if gated:
        raise LabError(f"add_skipping: blocks {gated} have a gate already; give other layers, or the model before")
    require_plain_blocks("add_skipping", model, layers)
