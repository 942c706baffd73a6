"""What the zoo's teacher loses when it computes on fewer tokens, and what time that saves: token pruning and merging.

The pages of `chapters/dynamic` show what these studies store. "Off the shelf" is the trained model with tokens dropped
or merged, "fine-tuned" the same after a short training; rates and steps are the same for all rows, and nothing was
chosen on the test pictures. Times are measured at the end, all rows of a study beside the dense model, in one
interleaved run per size of batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, models, profiling
from ..checkpoint import zoo
from ..dynamic.adaptive_sampling import present_tokens
from ..dynamic.choosing import Choose
from ..dynamic.dynamicvit import fine_tune
from ..dynamic.token_merging import merge_tokens
from ..dynamic.token_pruning import prune_tokens
from ..models.transforming import copied
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from ..models.timm_parts import token_counts
from .compression import DATASET, FINE_TUNING, MODEL, TEST, described, fine_tuned, speed, teacher
from .keeping import kept

SEEDS, LAYERS = (0, 1, 2), (1, 3)
BATCHES, TIMING_S = {"": 32, "_1": 1}, 60.0            # pictures a call by the ending of its keys, and seconds for each
SIZES, LARGE, LARGE_BATCH, LARGE_S = (64, 128, 224, 320), "deit_tiny_patch16_224", 4, 12.0
BOTH, COUNTED = ("off the shelf", "fine-tuned"), 16


@dataclass(frozen=True)
class Row:
    """One way to have fewer tokens: a call and its arguments, what stands in the row as it is, how far it goes."""

    call: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    shown: Mapping[str, Any]
    stages: tuple[str, ...] = BOTH[:1]
    seeds: tuple[int, ...] = (0,)

    @property
    def recipe(self) -> str:
        """The call as text."""
        return f"{self.call.__name__}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"

    def made(self, model: nn.Module) -> nn.Module:
        """The model on fewer tokens."""
        return self.call(model, **self.arguments)


class AtRandom(Choose):
    """Any `count` tokens, scored (batch, n), in another order for each picture: what a choice has to beat."""

    def forward(self, scores: Tensor, count: int) -> Tensor:
        return super().forward(torch.rand_like(scores), count)


def prune_at_random(model: nn.Module, keep_ratio: float, layers: Sequence[int]) -> nn.Module:
    """`prune_tokens`, as many tokens as "topk", whichever they are."""
    pruned = prune_tokens(model, keep_ratio, layers, method="topk")
    for block in pruned.blocks:
        if hasattr(block, "choose"):
            block.choose = AtRandom()
    return pruned


def _merging(r: int, mode: str = "weighted", schedule: str = "constant", proportional: bool = True,
             matching: str = "bipartite", stages: tuple[str, ...] = BOTH[:1], seeds: tuple[int, ...] = (0,)) -> Row:
    given = {"mode": mode, "schedule": schedule, "proportional_attention": proportional, "matching": matching}
    usual = {"mode": "weighted", "schedule": "constant", "proportional_attention": True, "matching": "bipartite"}
    arguments = {"r": r, **{name: value for name, value in given.items() if value != usual[name]}}
    shown = {"method": "cluster" if matching == "clusters" else mode, "setting": f"r={r}", "schedule": schedule,
             "proportional": proportional}
    return Row(merge_tokens, arguments, shown, stages, seeds)


def _merging_rows() -> dict[str, Row]:
    rows = {f"merge r={r}": _merging(r) for r in (2, 4, 6, 10)}
    rows |= {f"{label} r=8": _merging(8, mode, stages=BOTH, seeds=SEEDS)
             for label, mode in (("merge", "weighted"), ("prune", "prune"))}
    rows |= {f"prune r={r}": _merging(r, "prune") for r in (4, 6, 10)}
    rows |= {f"{mode} r=8": _merging(8, mode) for mode in ("mean", "max", "mlerp", "tofu")}
    return rows | {"merge r=8, decreasing": _merging(8, schedule="decreasing"),
                   "merge r=8, not proportional": _merging(8, proportional=False),
                   "clusters r=8": _merging(8, matching="clusters")}


def _pruning(method: str, ratio: float, stages: tuple[str, ...] = BOTH[:1], seeds: tuple[int, ...] = (0,),
             **more: Any) -> Row:
    shown = {"method": method, "setting": f"keep {ratio}", "schedule": None, "proportional": None, **more}
    return Row(prune_tokens, {"keep_ratio": ratio, "layers": LAYERS, "method": method, **more}, shown, stages, seeds)


def _pruning_rows() -> dict[str, Row]:
    rows = {f"{method} {ratio}": _pruning(method, ratio)
            for method in ("evit", "topk", "ats") for ratio in (0.9, 0.7, 0.3)}
    rows |= {f"{method} 0.5": _pruning(method, 0.5, BOTH, SEEDS) for method in ("evit", "topk")}
    rows |= {"ats 0.5": _pruning("ats", 0.5, BOTH), "ats 0.5, padded": _pruning("ats", 0.5, lengths="padded")}
    rows |= {f"random {ratio}": Row(prune_at_random, {"keep_ratio": ratio, "layers": LAYERS}, {
        "method": "random", "setting": f"keep {ratio}", "schedule": None, "proportional": None}, stages, seeds)
        for ratio, stages, seeds in ((0.5, BOTH, SEEDS), *((ratio, BOTH[:1], (0,)) for ratio in (0.9, 0.7, 0.3)))}
    return rows | {"dynamicvit 0.5": _pruning("dynamicvit", 0.5, BOTH, SEEDS),
                   "dynamicvit 0.7": _pruning("dynamicvit", 0.7, BOTH[1:])}


STUDIES = {"token_merging_cifar10": _merging_rows(), "token_pruning_cifar10": _pruning_rows()}
LARGER = {   # what is timed over the size of the picture, at a like share of tokens
    "token_merging_cifar10": lambda tokens: {
        "merge 1/16 a block": _merging(tokens // 16), "prune 1/16 a block": _merging(tokens // 16, "prune")},
    "token_pruning_cifar10": lambda tokens: {f"evit {ratio}": Row(
        prune_tokens, {"keep_ratio": ratio, "layers": (3, 6, 9), "method": "evit"}, {}) for ratio in (0.7, 0.5)},
}


def study(name: str, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """Every row (or `labels`) with scores, costs and time, the dense model, the sizes of pictures; kept runs count."""
    rows, dense = {label: STUDIES[name][label] for label in labels or STUDIES[name]}, teacher()
    found = [{"label": label, "recipe": row.recipe, **row.shown, **_kept(name, label, row, stage, seed)}
             for label, row in rows.items() for stage in row.stages for seed in row.seeds]
    times = _times({"dense": dense} | {label: row.made(dense) for label, row in rows.items()})
    return {"dataset": DATASET, "model": MODEL, "test_pictures": TEST, "fine_tuning": dict(FINE_TUNING),
            "layers": list(LAYERS), "batch": BATCHES[""], "dense": {**described(dense), **times["dense"]},
            "rows": [{**row, **times[row["label"]]} for row in found],
            "sizes": [row for size in SIZES for row in _sized(name, size)],
            "seconds": round(sum(row["seconds"] for row in found), 1)}


def _kept(name: str, label: str, row: Row, stage: str, seed: int) -> dict[str, Any]:
    mark = zoo.card(f"{MODEL}/{DATASET}")["sha256"]
    about = [MODEL, mark, TEST, sorted(FINE_TUNING.items()), row.recipe, stage, seed]
    return kept("dynamic", about, lambda: _run(row, stage, seed), f"{name}: {label}, {stage}, seed {seed}")


def _run(row: Row, stage: str, seed: int) -> dict[str, Any]:
    start = process_time()
    torch.manual_seed(seed)
    model = row.made(teacher())
    if stage == "fine-tuned":
        model = _with_teacher(model, seed) if row.shown["method"] == "dynamicvit" else fine_tuned(model, seed)
    seconds = round(process_time() - start, 1)
    costs = described(model)
    tokens, macs = _tokens(model, row)
    return {"stage": stage, "seed": seed, **costs, "macs": macs or costs["macs"], "tokens": tokens, "seconds": seconds,
            "cpu_seconds": seconds}


def _with_teacher(model: nn.Module, seed: int) -> nn.Module:
    """Trained as DynamicViT is: its predictors cannot learn from labels alone."""
    model = copied(model)
    fine_tune(model, teacher(), data.load(DATASET), **FINE_TUNING, seed=seed, progress=False,
              threads=torch.get_num_threads())
    return model


def _tokens(model: nn.Module, row: Row) -> tuple[float, int | None]:
    """Tokens left at the end, and MACs where both depend on the picture: means over the first test pictures."""
    images = data.load(DATASET, "test").batch(torch.arange(COUNTED))[0]
    left: list[Tensor] = []

    def record(_norm: nn.Module, given: tuple, _keywords: dict) -> None:
        left.append(present_tokens(model, given[0]))

    with on_device(model), hooked([Hook(model.norm, "input", record)]):
        model(as_input(model, images))
    tokens = round(left[0].sum().item() / COUNTED, 2)
    if row.shown["method"] != "ats":
        return tokens, None
    macs = [profiling.count(_On(model, image[None]), tuple(images.shape[1:])).macs for image in images]
    return tokens, sum(macs) // COUNTED


class _On(nn.Module):
    """`model` on one picture, whatever it is given."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.model, self.image = model, image

    def forward(self, _given: Tensor) -> Tensor:
        return self.model(self.image)


def _times(candidates: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Latency and its ratio to the dense model's at every size of batch."""
    found: dict[str, dict[str, Any]] = {label: {} for label in candidates}
    for ending, size in BATCHES.items():
        inputs = data.load(DATASET, "test").batch(torch.arange(size))[0]
        times = profiling.measure(candidates, inputs, budget_s=TIMING_S, threads=torch.get_num_threads())
        for label in candidates:
            found[label] |= {f"{key.removesuffix('_ms')}{ending}{'_ms' * key.endswith('_ms')}": value
                             for key, value in speed(times, "dense", label).items()}
    return found


def _sized(name: str, size: int) -> list[dict[str, Any]]:
    """What MACs and time a larger model of random weights saves on pictures of `size` pixels."""
    torch.manual_seed(0)
    dense = models.create_model(LARGE, img_size=size).eval()
    tokens, _ = token_counts("experiments", dense)
    made = {label: row.made(dense) for label, row in LARGER[name](tokens - 1).items()}
    times = profiling.measure({"dense": dense, **made}, torch.randn(LARGE_BATCH, 3, size, size), budget_s=LARGE_S,
                              threads=torch.get_num_threads())
    whole = profiling.count(dense, (3, size, size)).macs
    return [{"image_size": size, "tokens": tokens, "label": label, "macs_gain": round(
        whole / profiling.count(model, (3, size, size)).macs, 3), "speedup": speed(times, "dense", label)["speedup"]}
        for label, model in made.items()]
