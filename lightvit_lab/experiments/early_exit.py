"""Exits behind the blocks of the zoo's teacher on CIFAR-10: what they learn, what rules spare, what arrives as time.

The page `chapters/dynamic/early_exit` shows what this study stores. Rules and temperatures are calibrated on validation
pictures, and nothing was chosen on the test pictures. Each seed trains the exits alone, then the model with them, with
and without the end as teacher; times are those of the first seed, in turns with the model without exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, data, profiling, training
from ..checkpoint import zoo
from ..dynamic.early_exit import EarlyExitViT, add_exits, with_rule
from ..dynamic.exit_calibration import calibrate_confidence, calibrate_rule, every_logit
from ..dynamic.exit_report import exit_macs, reliability
from ..dynamic.exit_rules import Confidence, Patience, Rule, confidence, exits_taken
from ..dynamic.exit_training import ExitObjective, train_exits
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from . import adaptive_depth
from .keeping import kept

MODEL, DATASET, LAYERS, TEST, VALIDATION, SEEDS = "lab_vit_teacher", "cifar10", (0, 1, 2, 3, 4), 5000, 1000, (0, 1, 2)
COMMON = {"batch_size": 128, "warmup": 0.1, "augment": ("flip", "crop"), "progress": False}
ALONE = {**COMMON, "steps": 120, "lr": 5e-3, "whole": False}
WHOLE = {**COMMON, "steps": 80, "lr": 2e-3, "optimizer": "muon", "schedule": "linear", "whole": True}
STAGES = ("exits alone", "all together")
TEACHING = {"taught by the end": 1.0, "labels alone": 0.0}
SPARED = 0.005                          # of accuracy on validation pictures, that a rule may cost
THRESHOLDS = tuple(round(0.2 + 0.02 * step, 2) for step in range(40)) + (0.99, 0.995, 1.0)
TIMED, TIMING_S = {1: 32, 32: 96}, 40.0      # pictures a call: test pictures in all; seconds of each measurement


class InBatches(nn.Module):
    """`model` on all pictures in parts of `size`: the time of easy and hard ones, not of one lucky picture."""

    def __init__(self, model: nn.Module, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.model(part) for part in inputs.split(self.size)])


class LookedAtAfterwards(nn.Module):
    """All exits computed for all pictures, and the rule applied to what they said: MACs on paper, and no time."""

    def __init__(self, model: EarlyExitViT):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = torch.stack(self.model(inputs, every=True))
        places = torch.arange(inputs.shape[0], device=inputs.device)
        return logits[exits_taken(self.model.rule, logits), places]


@lru_cache(maxsize=1)
def teacher() -> nn.Module:
    """The model that is given exits."""
    return checkpoint.load(f"zoo:{MODEL}/{DATASET}")


def study() -> dict[str, Any]:
    """All runs; each is kept as it ends, so that a study that was stopped goes on."""
    runs = [_kept(teaching, seed) for teaching in TEACHING for seed in SEEDS]
    depth = [_kept_depth(label, make) for label, make in adaptive_depth.RUNS.items()]
    score, cost = training.evaluate(teacher(), _pictures("test", TEST)), profiling.count(teacher(), (3, 32, 32))
    dense = {**_scored(score), "params": cost.params, "macs": cost.macs, **runs[0]["times"]["no exits"]}
    return {"model": MODEL, "dataset": DATASET, "test_pictures": score.count, "calibration_pictures": VALIDATION,
            "layers": list(LAYERS), "training": {"exits alone": dict(ALONE), "all together": dict(WHOLE)},
            "dense": dense, "depth": depth, "exit_macs": runs[0]["exit_macs"],
            "afterwards": {stage: runs[0]["times"][f"{stage}, looked at afterwards"] for stage in STAGES},
            **{part: [row for run in runs for row in run[part]] for part in ("exits", "rows", "frontier")},
            "seconds": round(sum(run["seconds"] for run in [*runs, *depth]), 1)}


def _kept(teaching: str, seed: int) -> dict[str, Any]:
    about = [MODEL, zoo.card(f"{MODEL}/{DATASET}")["sha256"], LAYERS, TEST, VALIDATION, sorted(ALONE.items()),
             sorted(WHOLE.items()), SPARED, THRESHOLDS, TIMED, TIMING_S, teaching, seed]
    return kept("early_exit", about, lambda: _run(teaching, seed), f"exits, {teaching}, seed {seed}")


def _kept_depth(label: str, make: partial[dict[str, Any]]) -> dict[str, Any]:
    about = [MODEL, zoo.card(f"{MODEL}/{DATASET}")["sha256"], TEST, sorted(adaptive_depth.TRAINING.items()), label,
             sorted(make.keywords.items())]
    pictures = {split: _pictures(split, count) for split, count in (("train", None), ("test", TEST))}
    return {"label": label, **kept("early_exit", about, lambda: make(teacher(), pictures), label)}


def _run(teaching: str, seed: int) -> dict[str, Any]:
    """One seed: the exits alone, then all together, each calibrated, scored, and for the first seed timed."""
    start, found = process_time(), {"exits": [], "rows": [], "frontier": [], "times": {}}
    torch.manual_seed(seed)
    model, timed = add_exits(teacher(), list(LAYERS)), {"no exits": teacher()}
    for stage, settings in zip(STAGES, (ALONE, WHOLE)):
        train_exits(model, data.load(DATASET), ExitObjective(teach=TEACHING[teaching]), seed=seed,
                    threads=torch.get_num_threads(), **settings)
        about = {"stage": stage, "teaching": teaching, "seed": seed}
        scaled = calibrate_confidence(model, _pictures("val", VALIDATION))
        rules = calibrated(scaled)
        for part, rows in described(scaled, rules).items():
            found[part] += [{**about, **row} for row in rows]
        timed |= {f"{stage}, {label}": with_rule(scaled, rule) for label, rule in rules.items()}
        timed[f"{stage}, looked at afterwards"] = LookedAtAfterwards(with_rule(scaled, rules["as accurate"]))
    if (teaching, seed) == (next(iter(TEACHING)), SEEDS[0]):
        found["times"] = times(timed)
        found["rows"] = [{**row, **found["times"][f"{row['stage']}, {row['label']}"]} for row in found["rows"]]
    seconds = round(process_time() - start, 1)
    return {**found, "exit_macs": list(exit_macs(model, (3, 32, 32))), "seconds": seconds, "cpu_seconds": seconds,
            "test": found["rows"][0]["test"]}


def calibrated(model: EarlyExitViT) -> dict[str, Rule]:
    """Rules by name, from validation pictures: as accurate as the end less `SPARED`, half of the cost, patience."""
    pictures, macs = _pictures("val", VALIDATION), exit_macs(model, (3, 32, 32))
    end = training.evaluate(with_rule(model, None), pictures).accuracy
    goals = {"as accurate": {"accuracy": max(0.0, end - SPARED)},
             "half of the cost": {"mean_macs": (macs[0] + macs[-1]) / 2}}
    found: dict[str, Rule] = {label: calibrate_rule(model, pictures, **goal).rule for label, goal in goals.items()}
    return found | {f"{agree} agree": Patience(agree) for agree in (2, 3)} | {"nobody leaves": Confidence(1.0)}


def described(model: EarlyExitViT, rules: dict[str, Rule]) -> dict[str, list[dict[str, Any]]]:
    """Exits one by one, rules one by one, and what each threshold of `THRESHOLDS` does, on test pictures."""
    pictures, macs = _pictures("test", TEST), exit_macs(model, (3, 32, 32))
    logits = every_logit(model, pictures)
    warmths = [*(head.temperature.item() for head in model.exits), 1.0]
    exits = [{"exit": place, "macs": macs[place], "temperature": round(warmth, 3),
              "error_before": _error(one * warmth, pictures.labels), "error": _error(one, pictures.labels),
              **_scored(_score(one, pictures.labels))} for place, (one, warmth) in enumerate(zip(logits, warmths))]
    rows = [{"label": label, "recipe": f"with_rule(exits, {rule})", **_left(rule, logits, pictures.labels, macs)}
            for label, rule in rules.items()]
    frontier = [{"threshold": threshold, **_left(Confidence(threshold), logits, pictures.labels, macs)}
                for threshold in THRESHOLDS]
    return {"exits": exits, "rows": rows, "frontier": frontier}


def _left(rule: Rule, logits: Tensor, labels: Tensor, macs: Sequence[int]) -> dict[str, Any]:
    """What becomes of pictures that leave by `rule`: accuracy, mean MACs, the share that leaves at each exit."""
    taken = exits_taken(rule, logits)
    said = logits[taken, torch.arange(len(labels))]
    shares = taken.bincount(minlength=len(macs)) / len(labels)
    return {**_scored(_score(said, labels)), "macs": round((shares.double() @ torch.tensor(macs).double()).item()),
            "shares": [round(share, 4) for share in shares.tolist()], "error": _error(said, labels)}


def _score(logits: Tensor, labels: Tensor) -> training.Score:
    right = int((logits.argmax(1) == labels).sum())
    return training.Score(right / len(labels), *training.wilson_interval(right, len(labels)), len(labels))


def _scored(score: training.Score) -> dict[str, float]:
    return {"test": round(score.accuracy, 4), "test_low": round(score.low, 4), "test_high": round(score.high, 4)}


def _error(logits: Tensor, labels: Tensor) -> float:
    return round(reliability(confidence(logits), logits.argmax(1) == labels).error, 4)


def _pictures(split: str, count: int | None) -> data.Pictures:
    return data.load(DATASET, split, count=count)


def times(models: dict[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Milliseconds for one picture, in batches of 1 and of 32, and how many times faster than without exits.

    "timed_macs" is the mean cost of the pictures that were timed, which are fewer than those that were scored.
    """
    models = {label: unwrapped(model) for label, model in models.items()}
    found: dict[str, dict[str, Any]] = {label: {} for label in models}
    for size, count in TIMED.items():
        part, suffix = _pictures("test", count).inputs, "_1" if size == 1 else ""
        measured = profiling.measure({label: InBatches(model, size) for label, model in models.items()}, part,
                                     budget_s=TIMING_S, threads=torch.get_num_threads())
        for label, one in measured.items():
            found[label] |= {f"latency{suffix}_ms": round(one.latency_ms / count, 4),
                             f"interval{suffix}_ms": [round(edge / count, 4) for edge in one.interval_ms],
                             f"speedup{suffix}": [round(edge, 3) for edge in measured.ratio("no exits", label).estimate],
                             f"timed_macs{suffix}": _mean_macs(models[label], part)}
    return found


def _mean_macs(model: nn.Module, inputs: Tensor) -> int:
    size = tuple(inputs.shape[1:])
    if isinstance(model, LookedAtAfterwards):
        return exit_macs(model.model, size)[-1]
    if not isinstance(model, EarlyExitViT):
        return profiling.count(model, size).macs
    with on_device(model):
        exits = model.leave(as_input(model, inputs)).exits.cpu()
    macs = torch.tensor(exit_macs(model, size)).double()
    return round(macs[exits].mean().item())
