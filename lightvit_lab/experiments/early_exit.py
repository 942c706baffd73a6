"""Exits behind the blocks of the zoo's teacher: what they learn, what rules spare, what time says.

The page `chapters/dynamic/early_exit` shows what this study stores. Rules and temperatures are
calibrated on validation pictures, and nothing was chosen on the test pictures. Each seed trains the
exits alone, then the model with them, with and without the end as teacher; times are those of the
first seed, in turns with the model without exits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, profiling, training
from ..dynamic.early_exit import (
    Confidence, EarlyExitViT, ExitObjective, Patience, Rule, add_exits, calibrate_confidence,
    calibrate_rule, confidence, every_logit, exit_macs, exits_taken, reliability, train_exits,
    with_rule)
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from . import adaptive_depth, base, kit
from .kit import SEEDS, Row, Run, Study, cpu_timed, scored

LAYERS, VALIDATION = (0, 1, 2, 3, 4), 1000
COMMON = {"batch_size": 128, "warmup": 0.1, "augment": ("flip", "crop"), "progress": False}
STAGES = {"exits alone": {**COMMON, "steps": 120, "lr": 5e-3, "whole": False},
          "all together": {**COMMON, "steps": 80, "lr": 2e-3, "optimizer": "muon",
                           "schedule": "linear", "whole": True}}
SPARED = 0.005                          # of accuracy on validation pictures, that a rule may cost
THRESHOLDS = (*(round(0.2 + 0.02 * step, 2) for step in range(40)), 0.99, 0.995, 1.0)
TIMED, TIMING_S = {1: 32, 32: 96}, 40.0      # pictures a call: test pictures in all


class InBatches(nn.Module):
    """`model` on all pictures in parts of `size`: the time of easy and hard ones, not of one."""

    def __init__(self, model: nn.Module, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.model(part) for part in inputs.split(self.size)])


class AllExits(nn.Module):
    """All exits computed for all pictures, then the rule applied: MACs on paper, and no time."""

    def __init__(self, model: EarlyExitViT):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = torch.stack(self.model(inputs, every=True))
        places = torch.arange(inputs.shape[0], device=inputs.device)
        return logits[exits_taken(self.model.rule, logits), places]


def trained_exits(teaching: str, teach: float, seed: int) -> Run:
    """The exits alone, then all together, each calibrated and scored, and for the first seed timed.

    `teach` is the weight of the end as the exits' teacher; `teaching` says it in the rows.
    """
    parts: Run = {"exits": [], "rows": [], "frontier": [], "times": {}}
    model, timed = add_exits(base.model(), list(LAYERS)), {"no exits": base.model()}
    for stage, settings in STAGES.items():
        train_exits(model, data.load(base.DATASET), ExitObjective(teach=teach), seed=seed,
                    threads=torch.get_num_threads(), **settings)
        scaled = calibrate_confidence(model, _pictures("val", VALIDATION))
        rules = calibrated(scaled)
        for part, rows in _scored_exits(scaled, rules).items():
            parts[part] += [{"stage": stage, "teaching": teaching, "seed": seed, **row}
                            for row in rows]
        timed |= {f"{stage}, {label}": with_rule(scaled, rule) for label, rule in rules.items()}
        timed[f"{stage}, looked at afterwards"] = AllExits(with_rule(scaled, rules["as accurate"]))
    if (teach, seed) == (1.0, 0):
        parts["times"] = times(timed)
        parts["rows"] = [{**row, **parts["times"][f"{row['stage']}, {row['label']}"]}
                         for row in parts["rows"]]
    return {**parts, "exit_macs": list(exit_macs(model, (3, 32, 32))),
            "test": parts["rows"][0]["test"]}


def calibrated(model: EarlyExitViT) -> dict[str, Rule]:
    """Rules from validation pictures: nearly as accurate as the end, half of the cost, patience."""
    pictures, macs = _pictures("val", VALIDATION), exit_macs(model, (3, 32, 32))
    end = training.evaluate(with_rule(model, None), pictures).accuracy
    accurate = calibrate_rule(model, pictures, accuracy=max(0.0, end - SPARED))
    cheap = calibrate_rule(model, pictures, mean_macs=(macs[0] + macs[-1]) / 2)
    return {"as accurate": accurate.rule, "half of the cost": cheap.rule, "2 agree": Patience(2),
            "3 agree": Patience(3), "nobody leaves": Confidence(1.0)}


def _scored_exits(model: EarlyExitViT, rules: Mapping[str, Rule]) -> dict[str, list[dict]]:
    """Exits one by one, rules one by one, each of `THRESHOLDS`: what they do on test pictures."""
    pictures, macs = _pictures("test", base.TEST), exit_macs(model, (3, 32, 32))
    logits, labels = every_logit(model, pictures), pictures.labels
    temperatures = [*(head.temperature.item() for head in model.exits), 1.0]
    exits = [{"exit": place, "macs": macs[place], "temperature": round(temperature, 3),
              "error_before": _error(own * temperature, labels), **_answers(own, labels)}
             for place, (own, temperature) in enumerate(zip(logits, temperatures))]
    rows = [{"label": label, "recipe": f"with_rule(exits, {rule})",
             **_outcome(rule, logits, labels, macs)} for label, rule in rules.items()]
    frontier = [{"threshold": threshold, **_outcome(Confidence(threshold), logits, labels, macs)}
                for threshold in THRESHOLDS]
    return {"exits": exits, "rows": rows, "frontier": frontier}


def _outcome(rule: Rule, logits: Tensor, labels: Tensor, macs: Sequence[int]) -> dict[str, Any]:
    """What becomes of pictures that leave by `rule`: accuracy, mean MACs, shares of the exits."""
    taken = exits_taken(rule, logits)
    shares = taken.bincount(minlength=len(macs)) / len(labels)
    return {"macs": round((shares.double() @ torch.tensor(macs).double()).item()),
            "shares": [round(share, 4) for share in shares.tolist()],
            **_answers(logits[taken, torch.arange(len(labels))], labels)}


def _answers(logits: Tensor, labels: Tensor) -> dict[str, float]:
    score = training.Score.of(int((logits.argmax(1) == labels).sum()), len(labels))
    return {**scored(score), "error": _error(logits, labels)}


def _error(logits: Tensor, labels: Tensor) -> float:
    return round(reliability(confidence(logits), logits.argmax(1) == labels).error, 4)


def _pictures(split: str, count: int | None = None) -> data.Pictures:
    return data.load(base.DATASET, split, count=count)


def times(models: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Speed for one picture, in batches of 1 and of 32, against the model without exits.

    "timed_macs" is the mean cost of the pictures that were timed, which are fewer than those that
    were scored.
    """
    models = {label: unwrapped(model) for label, model in models.items()}
    rows: dict[str, dict[str, Any]] = {label: {} for label in models}
    for size, count in TIMED.items():
        inputs, ending = _pictures("test", count).inputs, "_1" if size == 1 else ""
        batched = {label: InBatches(model, size) for label, model in models.items()}
        timed = kit.times(batched, "no exits", {ending: inputs}, TIMING_S, digits=4, pictures=count)
        for label, model in models.items():
            rows[label] |= {**timed[label], f"timed_macs{ending}": _mean_macs(model, inputs)}
    return rows


def _mean_macs(model: nn.Module, inputs: Tensor) -> int:
    size = tuple(inputs.shape[1:])
    if isinstance(model, AllExits):
        return exit_macs(model.model, size)[-1]
    if not isinstance(model, EarlyExitViT):
        return profiling.count(model, size).macs
    with on_device(model):
        exits = model.leave(as_input(model, inputs)).exits.cpu()
    return round(torch.tensor(exit_macs(model, size)).double()[exits].mean().item())


TEACHING = {"taught by the end": 1.0, "labels alone": 0.0}
ROWS = {label: Row(calls=((trained_exits, {"teaching": label, "teach": teach}),), seeds=SEEDS)
        for label, teach in TEACHING.items()}


def run(row: Row, _stage: str, seed: int) -> Run:
    """One way of training the exits, or one of `adaptive_depth`."""
    (call, how), = row.calls
    more = {"seed": seed} if call is trained_exits else {
        "model": base.model(),
        "pictures": {"train": _pictures("train"), "test": _pictures("test", base.TEST)}}
    result, seconds = cpu_timed(lambda: call(**how, **more))
    return {**result, "seconds": seconds, "cpu_seconds": seconds}


def key(row: Row, _stage: str, seed: int) -> list[Any]:
    """All that decides a run."""
    (call, how), = row.calls
    if call is trained_exits:
        return [base.MODEL, base.mark(), LAYERS, base.TEST, VALIDATION,
                *(sorted(settings.items()) for settings in STAGES.values()), SPARED, THRESHOLDS,
                TIMED, TIMING_S, how["teaching"], seed]
    label = next(label for label, one in adaptive_depth.ROWS.items() if one is row)
    return [base.MODEL, base.mark(), base.TEST, sorted(adaptive_depth.TRAINING.items()), label,
            sorted(how.items())]


def result(study: Study) -> dict[str, Any]:
    """All exits, rules and thresholds of every run; times of the first; what depth adapts."""
    exits = [run for label in TEACHING for run in study.runs[label]]
    score = training.evaluate(base.model(), _pictures("test", base.TEST))
    cost, timed = profiling.count(base.model(), (3, 32, 32)), exits[0]["times"]
    return {"model": base.MODEL, "dataset": base.DATASET, "test_pictures": score.count,
            "calibration_pictures": VALIDATION, "layers": list(LAYERS), "training": STAGES,
            "dense": {**scored(score), "params": cost.params, "macs": cost.macs,
                      **timed["no exits"]},
            "depth": [{"label": label, **study.runs[label][0]} for label in adaptive_depth.ROWS],
            "exit_macs": exits[0]["exit_macs"],
            "afterwards": {stage: timed[f"{stage}, looked at afterwards"] for stage in STAGES},
            **{part: _joined(exits, part) for part in ("exits", "rows", "frontier")}}


def _joined(runs: Sequence[Run], part: str) -> list[dict[str, Any]]:
    return [row for run in runs for row in run[part]]


STUDIES = (Study("early_exit_cifar10", result, {**ROWS, **adaptive_depth.ROWS}, run, key,
                 "early_exit"),)
