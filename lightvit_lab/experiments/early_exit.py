"""Exits behind the blocks of the zoo's teacher: what they learn, what rules spare, what time says.

The page `chapters/dynamic/early_exit` shows what this study stores. Every run begins with a fresh
copy of the teacher and trains for as many steps: the exits alone, the model with them, or, as the
control, the model without exits by the settings of the second. Rules and temperatures are
calibrated on validation pictures, the rate of the second was chosen on them, and nothing on the
test pictures. Times are those of the first seed, in turns with the model without exits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import data, profiling, training
from ..dynamic.early_exit import (
    Confidence, EarlyExitViT, Entropy, ExitObjective, Patience, Rule, add_exits,
    calibrate_confidence, choose_rule, confidence, every_logit, exit_macs, exits_taken,
    reliability, trade_off, train_exits, with_rule)
from ..models.transforming import copied
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from . import adaptive_depth, base, kit
from .kit import SEEDS, Row, Run, Study, cpu_timed, scored

LAYERS, VALIDATION = (0, 1, 2, 3, 4), 1000
WHOLE = adaptive_depth.TRAINING         # of every model that trains with all its weights
STAGES = {"exits alone": {**WHOLE, "lr": 5e-3, "optimizer": "adamw", "schedule": "cosine",
                          "whole": False},
          "all together": {**WHOLE, "whole": True}}
SPARED = 0.005                          # of accuracy on validation pictures, that a rule may cost
THRESHOLDS = (*(round(0.2 + 0.02 * step, 2) for step in range(40)), 0.99, 0.995, 1.0)
TIMED, TIMING_S = {1: 32, 32: 96}, 40.0      # pictures a call: test pictures in all
TIMED_RULES = ("as accurate", "half way", "2 agree", "3 agree", "nobody leaves")
TAUGHT, LABELS, LGVIT = "taught by the end", "labels alone", "LGViT's heads, taught by the end"


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


def trained_exits(stage: str, seed: int, teach: float, head: str) -> Run:
    """Exits trained as `stage` says, calibrated and scored.

    `teach` is the weight of the end as their teacher. The first seed of linear exits that the end
    teaches is timed.
    """
    model = add_exits(base.model(), list(LAYERS), head=head)
    train_exits(model, data.load(base.DATASET), ExitObjective(teach=teach), seed=seed,
                threads=torch.get_num_threads(), **STAGES[stage])
    model = calibrate_confidence(model, _pictures("val", VALIDATION))
    rules, macs = calibrated(model), exit_macs(model, (3, 32, 32))
    found = _scored_exits(model, rules)
    to_time = _to_time(model, rules) if (teach, head, seed) == (1.0, "linear", 0) else {}
    return {"exit_macs": list(macs), **found, "times": times(to_time) if to_time else {},
            "test": found["exits"][-1]["test"]}


def without_exits(stage: str, seed: int) -> Run:
    """The control: the model itself, trained by the settings of `stage`."""
    model = copied(base.model())
    settings = {name: value for name, value in STAGES[stage].items() if name != "whole"}
    training.fit(model, data.load(base.DATASET), seed=seed, threads=torch.get_num_threads(),
                 **settings)
    return scored(training.evaluate(model, _pictures("test", base.TEST)))


def _to_time(model: EarlyExitViT, rules: Mapping[str, Rule]) -> dict[str, nn.Module]:
    leaving = {label: with_rule(model, rules[label]) for label in TIMED_RULES}
    return {"no exits": base.model(), **leaving,
            "looked at afterwards": AllExits(leaving["as accurate"])}


def calibrated(model: EarlyExitViT) -> dict[str, Rule]:
    """Rules from validation pictures.

    Nearly as accurate as the end; half way from the cost of the first exit to that of the end; and
    those that read probabilities, as cheap as those that wait until exits agree.
    """
    pictures, macs = _pictures("val", VALIDATION), exit_macs(model, (3, 32, 32))
    logits = every_logit(model, pictures)
    end = (logits[-1].argmax(1) == pictures.labels).double().mean().item()
    goals = {"as accurate": {"accuracy": max(0.0, end - SPARED)},
             "half way": {"mean_macs": (macs[0] + macs[-1]) / 2}}
    rules: dict[str, Rule] = {}
    for agree in (2, 3):
        taken = exits_taken(Patience(agree), logits)
        rules[f"{agree} agree"] = Patience(agree)
        goals[f"as cheap as {agree} agree"] = {
            "mean_macs": torch.tensor(macs).double()[taken].mean().item()}
    points = {"": trade_off(model, pictures), ", entropy": trade_off(model, pictures, Entropy)}
    for label, goal in goals.items():
        rules |= {label + kind: choose_rule(tried, **goal).rule for kind, tried in points.items()}
    return {**rules, "nobody leaves": Confidence(1.0)}


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
    return {"exits": exits, "rules": rows, "frontier": frontier}


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
    costs = {label: _costs(model) for label, model in models.items()}
    rows: dict[str, dict[str, Any]] = {label: {} for label in models}
    for size, count in TIMED.items():
        inputs, ending = _pictures("test", count).inputs, "_1" if size == 1 else ""
        batched = {label: InBatches(model, size) for label, model in models.items()}
        timed = kit.times(batched, "no exits", {ending: inputs}, TIMING_S, digits=4, pictures=count)
        for label, model in models.items():
            cost = costs[label][_exits_taken(model, inputs)].mean().item()
            rows[label] |= {**timed[label], f"timed_macs{ending}": round(cost)}
    return rows


def _costs(model: nn.Module) -> Tensor:
    """MACs of a picture that leaves at each exit; of all, where none leaves."""
    if isinstance(model, EarlyExitViT):
        return torch.tensor(exit_macs(model, (3, 32, 32))).double()
    if isinstance(model, AllExits):
        return _costs(model.model)[-1:]
    return torch.tensor([profiling.count(model, (3, 32, 32)).macs]).double()


def _exits_taken(model: nn.Module, inputs: Tensor) -> Tensor:
    """Places in `_costs` (N,)."""
    if not isinstance(model, EarlyExitViT):
        return torch.zeros(len(inputs)).long()
    with on_device(model):
        return model.leave(as_input(model, inputs)).exits.cpu()


ROWS = {
    LABELS: Row(calls=((trained_exits, {"teach": 0.0, "head": "linear"}),), stages=(*STAGES,),
                seeds=SEEDS),
    TAUGHT: Row(calls=((trained_exits, {"teach": 1.0, "head": "linear"}),), stages=(*STAGES,),
                seeds=SEEDS),
    LGVIT: Row(calls=((trained_exits, {"teach": 1.0, "head": "lgvit"}),), stages=(*STAGES,),
               seeds=SEEDS),
    "without exits": Row(calls=((without_exits, {}),), stages=("all together",), seeds=SEEDS),
}


def run(row: Row, stage: str, seed: int) -> Run:
    """One way of training the exits, the control, or one of `adaptive_depth`."""
    (call, how), = row.calls
    more = {"stage": stage, "seed": seed} if stage else {
        "seed": seed, "model": base.model(),
        "pictures": {"train": _pictures("train"), "test": _pictures("test", base.TEST)}}
    result, seconds = cpu_timed(lambda: call(**how, **more))
    return {"stage": stage, "seed": seed, **result, "seconds": seconds, "cpu_seconds": seconds}


def key(row: Row, stage: str, seed: int) -> list[Any]:
    """All that decides a run; "fresh": each begins with the teacher as it is."""
    (call, how), = row.calls
    about = [base.MODEL, base.mark(), base.TEST, call.__name__, sorted(how.items()), seed]
    if not stage:
        return [*about, sorted(adaptive_depth.TRAINING.items())]
    more = [LAYERS, VALIDATION, SPARED, THRESHOLDS, TIMED, TIMING_S]
    return [*about, "fresh", sorted(STAGES[stage].items()), *(more if how else [])]


def result(study: Study) -> dict[str, Any]:
    """Every run with its exits, rules and thresholds, and times of the first seeds; the model."""
    score = training.evaluate(base.model(), _pictures("test", base.TEST))
    cost = profiling.count(base.model(), (3, 32, 32))
    blocks = sum(cost.by_module[f"blocks.{place}"] for place in range(len(base.model().blocks)))
    return {"model": base.MODEL, "dataset": base.DATASET, "test_pictures": score.count,
            "calibration_pictures": VALIDATION, "layers": list(LAYERS), "training": STAGES,
            "dense": {**scored(score), "params": cost.params, "macs": cost.macs,
                      "stem_macs": cost.macs - blocks},
            "runs": study.table()}


STUDIES = (Study("early_exit_cifar10", result, {**ROWS, **adaptive_depth.ROWS}, run, key,
                 "early_exit"),)
