"""Tokens that halt, and parts of blocks that are skipped, on the zoo's teacher: what they cost.

Part of the study in `early_exit`. Costs are means over test pictures: of the blocks each token, or
each picture, really went through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, profiling, training
from ..dynamic.early_exit import (HaltingObjective, HaltingViT, SkipObjective, add_halting,
                                  add_skipping, train_halting, train_skipping)
from ..dynamic.early_exit.block_skipping import SkipGate
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import require_unwrapped, unwrapped
from .kit import SEEDS, Row, Run, scored

TRAINING = {"steps": 120, "batch_size": 128, "lr": 1e-3, "optimizer": "muon",
            "schedule": "linear", "warmup": 0.1, "augment": ("flip", "crop"), "progress": False}
SCORED = 1000                          # pictures over which costs are averaged
Splits = Mapping[str, data.Pictures]


def halting(model: nn.Module, pictures: Splits, seed: int, scale: float, center: float,
            **objective: float) -> Run:
    """Tokens that halt: accuracy, mean MACs, tokens that enter each block.

    `objective` is what `HaltingObjective` takes.
    """
    torch.manual_seed(seed)
    halted = add_halting(model, scale, center)
    train_halting(halted, pictures["train"], HaltingObjective(**objective), seed=seed,
                  threads=torch.get_num_threads(), **TRAINING)
    kept = tokens_kept(halted, pictures["test"])
    entering = [round(tokens, 2) for tokens in kept.double().mean(0).tolist()]
    return {"method": "halting", "seed": seed, **_costs(entering, halted_macs(model, kept)),
            **scored(training.evaluate(halted, pictures["test"]))}


def skipping(model: nn.Module, pictures: Splits, seed: int, share: float, start: float,
             gates: int) -> Run:
    """Gates that a share of pictures passes, before all blocks but the first: the same of them.

    What enters is said of attention and of the MLP of each block, one after the other.
    """
    require_unwrapped("skipping", model)
    torch.manual_seed(seed)
    gated = add_skipping(model, list(range(1, len(model.blocks))), start, gates)
    train_skipping(gated, pictures["train"], SkipObjective(share=share, weight=5.0), seed=seed,
                   threads=torch.get_num_threads(), **TRAINING)
    used = blocks_used(gated, pictures["test"]).double()
    whole = profiling.count(model, (3, *pictures["test"].pixels.shape[-2:])).macs
    macs = whole - (1 - used).sum(1) @ torch.tensor(part_macs(model, _tokens(model))).double()
    entering = [1.0, 1.0, *(round(share, 4) for share in used.mean(0).flatten().tolist())]
    return {"method": "skipping", "seed": seed, **_costs(entering, macs),
            **scored(training.evaluate(gated, pictures["test"]))}


def _costs(entering: Sequence[float], macs: Tensor) -> dict[str, Any]:
    """What enters each block, the mean of each picture's MACs, and where the middle 80 % lie."""
    spread = macs.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
    return {"entering": entering, "macs": round(macs.mean().item()),
            "macs_spread": [round(value) for value in spread]}


HALTING = {"scale": 1.0, "center": 3.0, "depth": 3.0, "ponder": 0.02, "prior": 0.1}
SKIPPING = {"share": 0.5, "start": 0.5}
ROWS = {
    "tokens halt": Row(calls=((halting, HALTING),), seeds=SEEDS),
    "attention and MLPs are skipped": Row(calls=((skipping, {**SKIPPING, "gates": 2}),),
                                          seeds=SEEDS),
    "blocks are skipped": Row(calls=((skipping, {**SKIPPING, "gates": 1}),), seeds=SEEDS),
}


def block_macs(model: nn.Module, tokens: Tensor | int) -> Tensor | int:
    """MACs of one block for a picture of so many tokens: attention and MLP."""
    return sum(part_macs(model, tokens))


def part_macs(model: nn.Module, tokens: Tensor | int) -> tuple[Tensor | int, Tensor | int]:
    """The same of attention, with its two products of all tokens with all, and of the MLP."""
    model = unwrapped(model)
    attention, mlp = map(_weights, (model.blocks[0].attn, model.blocks[0].mlp))
    return tokens * attention + 2 * tokens * tokens * model.head.in_features, tokens * mlp


def _weights(part: nn.Module) -> int:
    """Weights of the linear layers of `part`: MACs of one token."""
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))


def halted_macs(model: nn.Module, kept: Tensor,
                size: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """MACs (N,) of pictures of which `kept` (N, depth) tokens entered each block of `model`."""
    model, kept = unwrapped(model), kept.double()
    blocks = len(model.blocks) * block_macs(model, _tokens(model))
    return profiling.count(model, size).macs - blocks + block_macs(model, kept).sum(1)


def tokens_kept(model: HaltingViT, pictures: data.Pictures) -> Tensor:
    """Tokens of each picture that entered each block, (N, depth); of the first `SCORED`."""
    model = unwrapped(model)
    with on_device(model):
        return torch.cat([model.halt(as_input(model, inputs)).kept.cpu()
                          for inputs in _batches(pictures)])


def blocks_used(model: nn.Module, pictures: data.Pictures) -> Tensor:
    """Which parts of gated blocks each of the first `SCORED` pictures went through.

    (N, blocks, 2) of 0 and 1: attention, MLP.
    """
    used = {part: [] for part in model.modules() if isinstance(part, SkipGate)}

    def record(gate: nn.Module, _arguments: tuple, _keywords: dict, output: Tensor) -> None:
        used[gate].append(output.cpu().expand(-1, 2))

    with on_device(model), hooked([Hook(gate, "output", record) for gate in used]):
        for inputs in _batches(pictures):
            model(as_input(model, inputs))
    return torch.stack([torch.cat(outputs) for outputs in used.values()], dim=1)


def _batches(pictures: data.Pictures) -> Sequence[Tensor]:
    return pictures.batch(torch.arange(min(SCORED, len(pictures))))[0].split(100)


def _tokens(model: nn.Module) -> int:
    return model.num_image_tokens + model.num_prefix_tokens
