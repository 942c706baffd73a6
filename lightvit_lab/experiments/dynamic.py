"""What the zoo's teacher loses when it computes on fewer tokens, and the time that saves.

The pages of `chapters/dynamic` show what these studies store: token pruning and token merging. "Off
the shelf" is the trained model with tokens dropped or merged, "fine-tuned" the same after a short
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, models, profiling, training
from ..dynamic.token_merging import merge_tokens
from ..dynamic.token_merging.merging import ProportionalAttention
from ..dynamic.token_pruning import (Choose, CoarseToFineObjective, coarse_to_fine,  # noqa: F401
                                     fine_tune, present_tokens, prune_tokens)
from ..models.timm_parts import token_counts
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from . import base
from .kit import Row, Run, Study, calls_of, read_rows, scored, times

LAYERS, COUNTED = (1, 3), 16
# coarse to fine alone is trained so, by its own loss
LOOKS_STAGE, LOOKS = "fine-tuned, 300 steps", {**base.FINE_TUNING, "steps": 300}
SURE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)     # thresholds of leaving after one look
BATCHES, TIMING_S = {"": 32, "_1": 1}, 60.0     # pictures a call by the ending of its keys
SIZES, LARGE, LARGE_BATCH, LARGE_S = (64, 128, 224, 320), "deit_tiny_patch16_224", 4, 12.0
# What is done to larger pictures, by label; `r` is a sixteenth of their tokens.
MERGE_LARGE = {"merge 1/16 a block": "merge_tokens(r={r})",
               "prune 1/16 a block": "merge_tokens(r={r}, mode='prune')"}
PRUNE_LARGE = {f"evit {ratio}": f"prune_tokens(keep_ratio={ratio}, layers=(3, 6, 9), method='evit')"
               for ratio in (0.7, 0.5)}


class AtRandom(Choose):
    """Any `count` tokens, scored (batch, n), in another order for each picture: what to beat."""

    def forward(self, scores: Tensor, count: int) -> Tensor:
        return super().forward(torch.rand_like(scores), count)


def prune_at_random(model: nn.Module, keep_ratio: float, layers: Sequence[int]) -> nn.Module:
    """`prune_tokens`, as many tokens as "topk", whichever they are."""
    pruned = prune_tokens(model, keep_ratio, layers, method="topk")
    for block in pruned.blocks:
        if hasattr(block, "choose"):
            block.choose = AtRandom()
    return pruned


class AnyMetric(ProportionalAttention):
    """Attention whose metric is noise, in another order for each picture: pairs to beat."""

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mixed, metric = super().forward(tokens, size)
        return mixed, torch.randn_like(metric)


def merge_at_random(model: nn.Module, r: int) -> nn.Module:
    """`merge_tokens`, as many pairs, whichever they are."""
    merged = merge_tokens(model, r)
    for block in merged.blocks:
        block.attn = AnyMetric(block.attn)
    return merged


MERGING_ROWS = read_rows("token_merging_cifar10", globals())
PRUNING_ROWS = read_rows("token_pruning_cifar10", globals())


def run(row: Row, stage: str, seed: int) -> Run:
    """One row, as far as `stage`."""
    method = row.columns.get("method")
    own = {"dynamicvit": _with_teacher, "coarse to fine": _both_looks}

    def make() -> nn.Module:
        return own.get(method, base.tuned)(row.apply(base.model()), stage, seed)

    more = _looks if method == "coarse to fine" else partial(_tokens, varies=method == "ats")
    return base.run(make, stage, seed, more)


def _with_teacher(model: nn.Module, stage: str, seed: int) -> nn.Module:
    """Trained as DynamicViT is: its predictors cannot learn from labels alone."""
    if stage not in base.TUNINGS:
        return model

    def train(copy: nn.Module, pictures: data.Pictures, **settings: Any) -> None:
        fine_tune(copy, base.model(), pictures, **settings)

    return base.trained_copy(model, train, base.TUNINGS[stage], seed)


def _both_looks(model: nn.Module, stage: str, seed: int) -> nn.Module:
    """Trained as CF-ViT is: labels teach the fine look, and that teaches the coarse one."""
    if stage != LOOKS_STAGE:
        return model
    train = partial(training.fit, objective=CoarseToFineObjective())
    return base.trained_copy(model, train, LOOKS, seed)


def _looks(model: nn.Module) -> dict[str, Any]:
    """Accuracy of each look alone, and what leaving after the coarse one, if sure, would give."""
    pictures = data.load(base.DATASET, "test", count=base.TEST)
    with on_device(model):
        both = [model.both_stages(as_input(model, pictures.batch(index)[0]))
                for index in torch.arange(len(pictures)).split(250)]
    coarse, fine = (torch.cat(logits).cpu() for logits in zip(*both))
    right = [logits.argmax(1) == pictures.labels for logits in (coarse, fine)]
    once, twice = (profiling.count(model, tuple(base.inputs(1).shape[1:])).macs
                   for model.threshold in (0.0, 1.0))
    sure = coarse.softmax(1).amax(1)
    leaving = [{"threshold": threshold, **_leaving(sure >= threshold, right, (once, twice))}
               for threshold in SURE]
    return {**_tokens(model, False), "looks": [_score(one) for one in right], "leaving": leaving}


def _leaving(early: Tensor, right: Sequence[Tensor], macs: Sequence[int]) -> dict[str, float]:
    """Where `early` pictures have the first answer, others the second: accuracy and mean MACs.

    `macs` are those of one look and of both.
    """
    share = early.double().mean().item()
    return {"early": round(share, 4), **_score(right[0].where(early, right[1])),
            "macs": round(share * macs[0] + (1 - share) * macs[1])}


def _score(right: Tensor) -> dict[str, float]:
    return scored(training.Score.of(int(right.sum()), len(right)))


def _tokens(model: nn.Module, varies: bool) -> dict[str, Any]:
    """Tokens at the end; with `varies` also MACs: means over the first test pictures."""
    images, tokens = base.inputs(COUNTED), []

    def record(_norm: nn.Module, arguments: tuple, _keywords: dict) -> None:
        tokens.append(present_tokens(model, arguments[0]))

    with on_device(model), hooked([Hook(model.norm, "input", record)]):
        model(as_input(model, images))
    row = {"tokens": round(tokens[-1].sum().item() / COUNTED, 2)}     # of two looks, the last
    if varies:
        macs = (profiling.count(OnePicture(model, image[None]), tuple(image.shape)).macs
                for image in images)
        row["macs"] = sum(macs) // COUNTED
    return row


class OnePicture(nn.Module):
    """`model` on one picture, whatever its input."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.model, self.image = model, image

    def forward(self, _inputs: Tensor) -> Tensor:
        return self.model(self.image)


def larger(size: int, recipes: Mapping[str, str]) -> list[dict[str, Any]]:
    """What MACs and time a larger model of random weights saves on pictures of `size` pixels."""
    torch.manual_seed(0)
    dense = models.create_model(LARGE, img_size=size).eval()
    tokens, _ = token_counts("experiments", dense)
    rows = {label: Row(calls=calls_of(recipe.format(r=(tokens - 1) // 16), globals()))
            for label, recipe in recipes.items()}
    candidates = {"dense": dense} | {label: row.apply(dense) for label, row in rows.items()}
    timed = times(candidates, "dense", {"": torch.randn(LARGE_BATCH, 3, size, size)}, LARGE_S)
    macs = {label: profiling.count(model, (3, size, size)).macs
            for label, model in candidates.items()}
    return [{"image_size": size, "tokens": tokens, "label": label,
             "macs_gain": round(macs["dense"] / macs[label], 3), "speedup": timed[label]["speedup"]}
            for label in rows]


def result(study: Study, large: Mapping[str, str]) -> dict[str, Any]:
    """Every run beside the dense model, and what recipes like theirs save on larger pictures."""
    sizes = [row for size in SIZES for row in larger(size, large)]
    return base.result(study, lambda model, row: row.apply(model), BATCHES, TIMING_S,
                       layers=list(LAYERS), batch=BATCHES[""], sizes=sizes)


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    return [base.MODEL, base.mark(), base.TEST, base.tuning_key(stage), row.recipe, stage, seed]


def _study(name: str, rows: dict[str, Row], large: Mapping[str, str]) -> Study:
    return Study(name, partial(result, large=large), rows, run, key, "dynamic")


STUDIES = (_study("token_merging_cifar10", MERGING_ROWS, MERGE_LARGE),
           _study("token_pruning_cifar10", PRUNING_ROWS, PRUNE_LARGE))
