"""Tokens that halt, and blocks that are skipped, on the zoo's teacher: what they cost.

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
from .kit import Row, Run, scored

TRAINING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "warmup": 0.1,
            "augment": ("flip", "crop"), "progress": False}
SCORED = 1000                          # pictures over which costs are averaged
Splits = Mapping[str, data.Pictures]


def halting(model: nn.Module, pictures: Splits, depth: float, ponder: float) -> Run:
    """Tokens that halt around `depth` blocks: accuracy, mean MACs, tokens that enter each block."""
    torch.manual_seed(0)
    halted = add_halting(model, start=0.02)
    train_halting(halted, pictures["train"], HaltingObjective(depth=depth, ponder=ponder), seed=0,
                  threads=torch.get_num_threads(), **TRAINING)
    kept = tokens_kept(halted, pictures["test"])
    entering = [round(tokens, 2) for tokens in kept.double().mean(0).tolist()]
    return {"method": "halting", "setting": f"depth {depth:g}, ponder {ponder:g}",
            **_costs(entering, halted_macs(model, kept)),
            **scored(training.evaluate(halted, pictures["test"]))}


def skipping(model: nn.Module, pictures: Splits, share: float, start: float) -> Run:
    """Gates that a share of pictures passes, before all blocks but the first: the same of them."""
    require_unwrapped("skipping", model)
    torch.manual_seed(0)
    gated = add_skipping(model, list(range(1, len(model.blocks))), start=start)
    train_skipping(gated, pictures["train"], SkipObjective(share=share, weight=5.0), seed=0,
                   threads=torch.get_num_threads(), **TRAINING)
    used = blocks_used(gated, pictures["test"]).double()
    whole = profiling.count(model, (3, *pictures["test"].pixels.shape[-2:])).macs
    macs = whole - (1 - used).sum(1) * block_macs(model, _tokens(model))
    entering = [1.0, *(round(share, 4) for share in used.mean(0).tolist())]
    return {"method": "skipping", "setting": f"share {share:g}", **_costs(entering, macs),
            **scored(training.evaluate(gated, pictures["test"]))}


def _costs(entering: Sequence[float], macs: Tensor) -> dict[str, Any]:
    """What enters each block, the mean of each picture's MACs, and where the middle 80 % lie."""
    spread = macs.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
    return {"entering": entering, "macs": round(macs.mean().item()),
            "macs_spread": [round(value) for value in spread]}


ROWS = {
    "tokens halt": Row(calls=((halting, {"depth": 3.0, "ponder": 0.01}),)),
    "blocks are skipped": Row(calls=((skipping, {"share": 0.5, "start": 0.5}),)),
}


def block_macs(model: nn.Module, tokens: Tensor | int) -> Tensor | int:
    """MACs of one block for a picture of so many tokens: linear layers, attention's products."""
    model = unwrapped(model)
    linear = sum(layer.weight.numel() for layer in model.blocks[0].modules()
                 if isinstance(layer, nn.Linear))
    return tokens * linear + 2 * tokens * tokens * model.head.in_features


def halted_macs(model: nn.Module, kept: Tensor,
                size: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """MACs (N,) of pictures of which `kept` (N, depth) tokens entered each block of `model`."""
    model, kept = unwrapped(model), kept.double()
    blocks = len(model.blocks) * block_macs(model, _tokens(model))
    scores = kept * model.head.in_features       # of halting, a linear layer to one number
    return profiling.count(model, size).macs - blocks + (block_macs(model, kept) + scores).sum(1)


def tokens_kept(model: HaltingViT, pictures: data.Pictures) -> Tensor:
    """Tokens of each picture that entered each block, (N, depth); of the first `SCORED`."""
    model = unwrapped(model)
    with on_device(model):
        return torch.cat([model.halt(as_input(model, inputs)).kept.cpu()
                          for inputs in _batches(pictures)])


def blocks_used(model: nn.Module, pictures: data.Pictures) -> Tensor:
    """Gated blocks that each of the first `SCORED` pictures went through, (N, gates) of 0 and 1."""
    used = {part: [] for part in model.modules() if isinstance(part, SkipGate)}

    def record(gate: nn.Module, _arguments: tuple, _keywords: dict, output: Tensor) -> None:
        used[gate].append(output.cpu())

    with on_device(model), hooked([Hook(gate, "output", record) for gate in used]):
        for inputs in _batches(pictures):
            model(as_input(model, inputs))
    return torch.stack([torch.cat(outputs) for outputs in used.values()], dim=1)


def _batches(pictures: data.Pictures) -> Sequence[Tensor]:
    return pictures.batch(torch.arange(min(SCORED, len(pictures))))[0].split(100)


def _tokens(model: nn.Module) -> int:
    return model.num_image_tokens + model.num_prefix_tokens
