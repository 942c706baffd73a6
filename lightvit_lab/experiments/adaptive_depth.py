"""Tokens that halt, and blocks that are skipped, on the zoo's teacher: what they cost.

Part of the study in `early_exit`. Costs are means over test pictures: of the blocks each token, or
each picture, really went through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, profiling, training
from ..dynamic.early_exit.block_skipping import SkipGate, SkipObjective, add_skipping, train_skipping
from ..dynamic.early_exit.token_halting import HaltingObjective, HaltingViT, add_halting, train_halting
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import require_unwrapped, unwrapped
from .kit import Row, Run, scored

TRAINING = {"steps": 100, "batch_size": 128, "lr": 2e-3, "warmup": 0.1,
            "augment": ("flip", "crop"), "progress": False}
SCORED = 1000                          # pictures whose costs are looked at, in parts of 100
Split = Mapping[str, data.Pictures]


def halting(model: nn.Module, pictures: Split, depth: float, ponder: float) -> Run:
    """Tokens that halt around `depth` blocks: accuracy, mean MACs, tokens that enter each block."""
    begin = process_time()
    torch.manual_seed(0)
    halted = add_halting(model, start=0.02)
    train_halting(halted, pictures["train"], HaltingObjective(depth=depth, ponder=ponder), seed=0,
                  threads=torch.get_num_threads(), **TRAINING)
    kept = tokens_kept(halted, pictures["test"])
    entering = [round(value, 2) for value in kept.double().mean(0).tolist()]
    return {"method": "halting", "setting": f"depth {depth:g}, ponder {ponder:g}",
            "entering": entering, **_costs(halted_macs(model, kept)),
            **_score(halted, pictures["test"], begin)}


def skipping(model: nn.Module, pictures: Split, share: float, start: float) -> Run:
    """Gates that a share of pictures passes, before all blocks but the first: the same of them."""
    require_unwrapped("skipping", model)
    begin = process_time()
    torch.manual_seed(0)
    gated = add_skipping(model, list(range(1, len(model.blocks))), start=start)
    train_skipping(gated, pictures["train"], SkipObjective(share=share, weight=5.0), seed=0,
                   threads=torch.get_num_threads(), **TRAINING)
    went = blocks_used(gated, pictures["test"]).double()
    spared = (1 - went).sum(1) * block_macs(model, _tokens(model))
    entering = [1.0, *(round(value, 4) for value in went.mean(0).tolist())]
    return {"method": "skipping", "setting": f"share {share:g}", "entering": entering,
            **_costs(profiling.count(model, _size(pictures["test"])).macs - spared),
            **_score(gated, pictures["test"], begin)}


def _costs(macs: Tensor) -> dict[str, Any]:
    """Mean of the MACs of each picture, and where the middle 80 % lie."""
    spread = macs.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
    return {"macs": round(macs.mean().item()), "macs_spread": [round(value) for value in spread]}


def _score(model: nn.Module, pictures: data.Pictures, begin: float) -> dict[str, Any]:
    score, seconds = training.evaluate(model, pictures), round(process_time() - begin, 1)
    return {**scored(score), "seconds": seconds, "cpu_seconds": seconds}


ROWS = {
    "tokens halt": Row(calls=((halting, {"depth": 3.0, "ponder": 0.01}),)),
    "blocks are skipped": Row(calls=((skipping, {"share": 0.5, "start": 0.5}),)),
}


def block_macs(model: nn.Module, tokens: Tensor | int) -> Tensor | int:
    """MACs of one block for a picture of so many tokens: linear layers, attention's products."""
    model = unwrapped(model)
    layers = [part for part in model.blocks[0].modules() if isinstance(part, nn.Linear)]
    linear = sum(layer.weight.numel() for layer in layers)
    return tokens * linear + 2 * tokens * tokens * model.head.in_features


def halted_macs(model: nn.Module, kept: Tensor,
                size: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """MACs (N,) of pictures of which `kept` (N, depth) tokens entered each block of `model`."""
    model = unwrapped(model)
    kept, whole = kept.double(), profiling.count(model, size).macs
    rest = whole - len(model.blocks) * block_macs(model, _tokens(model))
    return rest + (block_macs(model, kept) + kept * model.head.in_features).sum(1)


def tokens_kept(model: HaltingViT, pictures: data.Pictures) -> Tensor:
    """Tokens of each picture that entered each block, (N, depth); of the first `SCORED`."""
    model = unwrapped(model)
    with on_device(model):
        return torch.cat([model.halt(as_input(model, inputs)).kept.cpu()
                          for inputs in _parts(pictures)])


def blocks_used(model: nn.Module, pictures: data.Pictures) -> Tensor:
    """Gated blocks that each of the first `SCORED` pictures went through, (N, gates) of 0 and 1."""
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
