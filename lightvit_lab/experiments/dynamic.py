"""What the zoo's teacher loses when it computes on fewer tokens, and the time that saves.

The pages of `chapters/dynamic` show what these studies store: token pruning and token merging. "Off
the shelf" is the trained model with tokens dropped or merged, "fine-tuned" the same after a short
training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, models, profiling
from ..dynamic.token_pruning.adaptive_sampling import present_tokens
from ..dynamic.token_pruning.choosing import Choose
from ..dynamic.token_pruning.dynamicvit import fine_tune
from ..dynamic.token_merging.merging import merge_tokens
from ..dynamic.token_pruning.pruning import prune_tokens
from ..models.timm_parts import token_counts
from ..models.transforming import copied
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from . import base
from .kit import SEEDS, Row, Run, Study, times

LAYERS, COUNTED = (1, 3), 16
BATCHES, TIMING_S = {"": 32, "_1": 1}, 60.0     # pictures a call by the ending of its keys
SIZES, LARGE, LARGE_BATCH, LARGE_S = (64, 128, 224, 320), "deit_tiny_patch16_224", 4, 12.0
BOTH, ONE = ("off the shelf", "fine-tuned"), ("off the shelf",)


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


def _merge(r: int, method: str, stages: tuple[str, ...] = ONE, seeds: tuple[int, ...] = (0,),
           **how: Any) -> Row:
    """Merging by a rule of `merge_tokens` (the usual one is not named), or by clusters."""
    if method not in ("weighted", "cluster"):
        how = {"mode": method, **how}
    shown = {"method": method, "setting": f"r={r}", "schedule": how.get("schedule", "constant"),
             "proportional": how.get("proportional_attention", True)}
    return Row(shown, ((merge_tokens, {"r": r, **how}),), stages, seeds)


MERGING_ROWS = {
    **{f"merge r={r}": _merge(r, "weighted") for r in (2, 4, 6, 10)},
    "merge r=8": _merge(8, "weighted", BOTH, SEEDS),
    "prune r=8": _merge(8, "prune", BOTH, SEEDS),
    **{f"prune r={r}": _merge(r, "prune") for r in (4, 6, 10)},
    **{f"{mode} r=8": _merge(8, mode) for mode in ("mean", "max", "mlerp", "tofu")},
    "merge r=8, decreasing": _merge(8, "weighted", schedule="decreasing"),
    "merge r=8, not proportional": _merge(8, "weighted", proportional_attention=False),
    "clusters r=8": _merge(8, "cluster", matching="clusters"),
}


def _prune(method: str, ratio: float, stages: tuple[str, ...] = ONE, seeds: tuple[int, ...] = (0,),
           **more: Any) -> Row:
    how = {"keep_ratio": ratio, "layers": LAYERS}
    call = prune_at_random if method == "random" else prune_tokens
    if method != "random":
        how |= {"method": method, **more}
    shown = {"method": method, "setting": f"keep {ratio}", "schedule": None, "proportional": None}
    return Row({**shown, **more}, ((call, how),), stages, seeds)


PRUNING_ROWS = {
    **{f"{method} {ratio}": _prune(method, ratio)
       for method in ("evit", "topk", "ats") for ratio in (0.9, 0.7, 0.3)},
    "evit 0.5": _prune("evit", 0.5, BOTH, SEEDS),
    "topk 0.5": _prune("topk", 0.5, BOTH, SEEDS),
    "ats 0.5": _prune("ats", 0.5, BOTH),
    "ats 0.5, padded": _prune("ats", 0.5, lengths="padded"),
    "random 0.5": _prune("random", 0.5, BOTH, SEEDS),
    **{f"random {ratio}": _prune("random", ratio) for ratio in (0.9, 0.7, 0.3)},
    "dynamicvit 0.5": _prune("dynamicvit", 0.5, BOTH, SEEDS),
    "dynamicvit 0.7": _prune("dynamicvit", 0.7, BOTH[1:]),
}


def _merge_large(tokens: int) -> dict[str, Row]:
    return {"merge 1/16 a block": _merge(tokens // 16, "weighted"),
            "prune 1/16 a block": _merge(tokens // 16, "prune")}


def _prune_large(_tokens: int) -> dict[str, Row]:
    how = {"layers": (3, 6, 9), "method": "evit"}
    return {f"evit {ratio}": Row(calls=((prune_tokens, {"keep_ratio": ratio, **how}),))
            for ratio in (0.7, 0.5)}


def run(row: Row, stage: str, seed: int) -> Run:
    """One row, as far as `stage`."""
    def make() -> nn.Module:
        model = row.apply(base.model())
        if stage != "fine-tuned":
            return model
        tune = _with_teacher if row.shown["method"] == "dynamicvit" else base.fine_tuned
        return tune(model, seed)

    return base.run(make, stage, seed, lambda model: _tokens(model, row.shown["method"] == "ats"))


def _with_teacher(model: nn.Module, seed: int) -> nn.Module:
    """Trained as DynamicViT is: its predictors cannot learn from labels alone."""
    model = copied(model)
    fine_tune(model, base.model(), data.load(base.DATASET), **base.FINE_TUNING, seed=seed,
              progress=False, threads=torch.get_num_threads())
    return model


def _tokens(model: nn.Module, varies: bool) -> dict[str, Any]:
    """Tokens left at the end; with `varies` also MACs: means over the first test pictures."""
    images, left = base.inputs(COUNTED), []

    def record(_norm: nn.Module, given: tuple, _keywords: dict) -> None:
        left.append(present_tokens(model, given[0]))

    with on_device(model), hooked([Hook(model.norm, "input", record)]):
        model(as_input(model, images))
    tokens = {"tokens": round(left[0].sum().item() / COUNTED, 2)}
    if not varies:
        return tokens
    macs = [profiling.count(OnePicture(model, image[None]), tuple(images.shape[1:])).macs
            for image in images]
    return {**tokens, "macs": sum(macs) // COUNTED}


class OnePicture(nn.Module):
    """`model` on one picture, whatever it is given."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.model, self.image = model, image

    def forward(self, _given: Tensor) -> Tensor:
        return self.model(self.image)


def larger(size: int, rows_of: Callable[[int], Mapping[str, Row]]) -> list[dict[str, Any]]:
    """What MACs and time a larger model of random weights saves on pictures of `size` pixels."""
    torch.manual_seed(0)
    dense = models.create_model(LARGE, img_size=size).eval()
    tokens, _ = token_counts("experiments", dense)
    made = {label: row.apply(dense) for label, row in rows_of(tokens - 1).items()}
    inputs = torch.randn(LARGE_BATCH, 3, size, size)
    timed = times({"dense": dense, **made}, "dense", {"": inputs}, LARGE_S)
    macs = {label: profiling.count(model, (3, size, size)).macs for label, model in made.items()}
    whole = profiling.count(dense, (3, size, size)).macs
    return [{"image_size": size, "tokens": tokens, "label": label,
             "macs_gain": round(whole / macs[label], 3), "speedup": timed[label]["speedup"]}
            for label in made]


def result(study: Study, rows_of: Callable[[int], Mapping[str, Row]]) -> dict[str, Any]:
    """Every run beside the dense model, and what rows like them save on larger pictures."""
    sizes = [row for size in SIZES for row in larger(size, rows_of)]
    return base.result(study, lambda model, row: row.apply(model), BATCHES, TIMING_S,
                       layers=list(LAYERS), batch=BATCHES[""], sizes=sizes)


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    return [base.MODEL, base.mark(), base.TEST, sorted(base.FINE_TUNING.items()), row.recipe, stage,
            seed]


def _study(name: str, rows: dict[str, Row], rows_of: Callable[[int], dict[str, Row]]) -> Study:
    return Study(name, partial(result, rows_of=rows_of), rows, run, key, "dynamic")


STUDIES = (_study("token_merging_cifar10", MERGING_ROWS, _merge_large),
           _study("token_pruning_cifar10", PRUNING_ROWS, _prune_large))
