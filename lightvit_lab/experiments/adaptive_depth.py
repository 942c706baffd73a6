"""Tokens that halt, and blocks that are skipped, on the zoo's teacher: what a short training makes of their cost.

Part of the study in `early_exit`. Costs are means over test pictures: of the blocks each token, or each picture, really
went through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, profiling, training
from ..dynamic.block_skipping import SkipGate, SkipObjective, add_skipping, train_skipping
from ..dynamic.token_halting import HaltingObjective, HaltingViT, add_halting, train_halting
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import require_unwrapped, unwrapped

TRAINING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "warmup": 0.1, "augment": ("flip", "crop"), "progress": False}
SCORED = 1000                          # pictures whose costs are looked at, in parts of 100


def halting(model: nn.Module, pictures: Mapping[str, data.Pictures], depth: float, ponder: float) -> dict[str, Any]:
    """Tokens that halt around `depth` blocks: accuracy, mean MACs, and how many tokens enter each block."""
    start = process_time()
    torch.manual_seed(0)
    halted = add_halting(model, start=0.02)
    train_halting(halted, pictures["train"], HaltingObjective(depth=depth, ponder=ponder), seed=0,
                  threads=torch.get_num_threads(), **TRAINING)
    kept = tokens_kept(halted, pictures["test"])
    macs = halted_macs(model, kept)
    return {"method": "halting", "setting": f"depth {depth:g}, ponder {ponder:g}", "macs": round(macs.mean().item()),
            "entering": [round(value, 2) for value in kept.double().mean(0).tolist()],
            "macs_spread": [round(value) for value in macs.quantile(torch.tensor([0.1, 0.9]).double()).tolist()],
            **_scored(halted, pictures["test"], start)}


def skipping(model: nn.Module, pictures: Mapping[str, data.Pictures], share: float, start: float) -> dict[str, Any]:
    """Gates before all blocks but the first, taught to let a share of pictures in: accuracy, mean MACs, blocks used."""
    require_unwrapped("skipping", model)
    begin = process_time()
    torch.manual_seed(0)
    layers = list(range(1, len(model.blocks)))
    gated = add_skipping(model, layers, start=start)
    train_skipping(gated, pictures["train"], SkipObjective(share=share, weight=5.0), seed=0,
                   threads=torch.get_num_threads(), **TRAINING)
    went = blocks_used(gated, pictures["test"])
    spared = (1 - went.double()).sum(1) * block_macs(model, _tokens(model))
    macs = profiling.count(model, _size(pictures["test"])).macs - spared
    return {"method": "skipping", "setting": f"share {share:g}", "macs": round(macs.mean().item()),
            "entering": [1.0, *(round(value, 4) for value in went.double().mean(0).tolist())],
            "macs_spread": [round(value) for value in macs.quantile(torch.tensor([0.1, 0.9]).double()).tolist()],
            **_scored(gated, pictures["test"], begin)}


RUNS: dict[str, partial[dict[str, Any]]] = {
    "tokens halt": partial(halting, depth=3.0, ponder=0.01),
    "blocks are skipped": partial(skipping, share=0.5, start=0.5),
}


def block_macs(model: nn.Module, tokens: Tensor | int) -> Tensor | int:
    """MACs of one block of `model` for a picture of so many tokens: linear layers, and two products of attention."""
    model = unwrapped(model)
    dim, linear = model.head.in_features, sum(part.weight.numel() for part in model.blocks[0].modules()
                                              if isinstance(part, nn.Linear))
    return tokens * linear + 2 * tokens * tokens * dim


def halted_macs(model: nn.Module, kept: Tensor, size: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """MACs of pictures of which `kept` (N, depth) tokens entered each block, (N,), by those of `model`, all counted."""
    model = unwrapped(model)
    whole = profiling.count(model, size).macs - len(model.blocks) * block_macs(model, _tokens(model))
    score = kept.double() * model.head.in_features
    return whole + (block_macs(model, kept.double()) + score).sum(1)


def tokens_kept(model: HaltingViT, pictures: data.Pictures) -> Tensor:
    """How many tokens of each picture entered each block, (N, depth); of the first `SCORED` pictures."""
    model = unwrapped(model)
    with on_device(model):
        return torch.cat([model.halt(as_input(model, inputs)).kept.cpu()
                          for inputs in _parts(pictures)])


def blocks_used(model: nn.Module, pictures: data.Pictures) -> Tensor:
    """Which gated blocks each picture went through, (N, gates) of 0 and 1; of the first `SCORED` pictures."""
    said: dict[nn.Module, list[Tensor]] = {part: [] for part in model.modules()
                                           if isinstance(part, SkipGate)}

    def record(gate: nn.Module, _given: tuple, _keywords: dict, answers: Tensor) -> None:
        said[gate].append(answers.cpu())

    with on_device(model), hooked([Hook(gate, "output", record) for gate in said]):
        for inputs in _parts(pictures):
            model(as_input(model, inputs))
    return torch.stack([torch.cat(answers) for answers in said.values()], dim=1)


def _parts(pictures: data.Pictures) -> Iterator[Tensor]:
    for index in torch.arange(min(SCORED, len(pictures))).split(100):
        yield pictures.batch(index)[0]


def _size(pictures: data.Pictures) -> tuple[int, ...]:
    return tuple(pictures.batch(torch.arange(1))[0].shape[1:])


def _tokens(model: nn.Module) -> int:
    return model.num_image_tokens + model.num_prefix_tokens


def _scored(model: nn.Module, pictures: data.Pictures, start: float) -> dict[str, Any]:
    score, seconds = training.evaluate(model, pictures), round(process_time() - start, 1)
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4),
            "seconds": seconds, "cpu_seconds": seconds}
