"""Throughput with exits really taken, at batch 1 and 32, and what accuracy that leaves: the zoo's teacher on shapes.

The exits alone are trained for a few steps ("off the shelf": the model behind them stays), or with `--whole` the model
too. Thresholds are calibrated on validation pictures to half a percent under what the end reaches there, and to two
costs; speed is that of test pictures, in turns, so that each batch has easy and hard ones. Also: tokens that halt, in
groups of equal length, beside the same tokens masked. Needs no data but what the lab draws.
"""

import argparse

import torch
from torch import Tensor, nn

from lightvit_lab import checkpoint, data, profiling
from lightvit_lab.dynamic.early_exit.exits import EarlyExitViT, add_exits, train_exits, with_rule
from lightvit_lab.dynamic.early_exit.report import (
    calibrate_confidence, calibrate_rule, exit_macs, exit_report)
from lightvit_lab.dynamic.early_exit.rules import Confidence, Patience, Rule
from lightvit_lab.dynamic.early_exit.token_halting import HaltingViT, add_halting
from lightvit_lab.errors import LabError

LAYERS, SEEN, BATCHES = [0, 1, 2, 3], 192, (1, 32)


class OneByOne(nn.Module):
    """`model` on all pictures of a batch in parts of `size`: mean time over pictures, not that of a lucky one."""

    def __init__(self, model: nn.Module, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.model(part) for part in inputs.split(self.size)])


class Masked(nn.Module):
    """Halting as published code runs it: all tokens computed, those that halted masked."""

    def __init__(self, model: HaltingViT):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model.masked(inputs).logits


def rules(model: EarlyExitViT, validation: data.Pictures) -> dict[str, Rule]:
    """Rules by what they were calibrated to; those that cannot be reached are left out, and said."""
    whole, first = exit_macs(model, (3, 32, 32))[-1], exit_macs(model, (3, 32, 32))[0]
    end = exit_report(with_rule(model, None), validation).score.accuracy
    wanted = {"end - 0.5 %": {"accuracy": end - 0.005}, "half of the cost": {"mean_macs": (whole + first) / 2},
              "a quarter": {"mean_macs": first + (whole - first) / 4}}
    found: dict[str, Rule] = {}
    for label, goal in wanted.items():
        try:
            found[label] = calibrate_rule(model, validation, **goal).rule
        except LabError as error:
            print(f"{label}: {error}")
    return {**found, "two agree": Patience(2), "nobody leaves": Confidence(1.0)}


def speeds(candidates: dict[str, nn.Module], inputs: Tensor, seconds: float) -> None:
    base = next(iter(candidates))
    for size in BATCHES:
        part = inputs if size > 1 else inputs[:64]
        found = profiling.measure({label: OneByOne(model, size) for label, model in candidates.items()}, part,
                                  budget_s=seconds, threads=1)
        print(f"batch {size}, {len(part)} test pictures, {found.conditions['machine']}")
        for label in candidates:
            print(f"  {label:22} {found[label].throughput_img_s:8.0f} images/s, {base} / {label}: "
                  f"{found.ratio(base, label)}", flush=True)


def main(steps: int, seconds: float, whole: bool) -> None:
    model = checkpoint.load("zoo:lab_vit_teacher/shapes")
    training, validation = data.load("shapes", count=4000), data.load("shapes", "val", count=500)
    test = data.load("shapes", "test", count=SEEN)
    exits = add_exits(model, LAYERS)
    train_exits(exits, training, whole=whole, steps=steps, lr=1e-3 if whole else 5e-3, threads=1, precision="float32",
                attention="fused", progress=False)
    exits = calibrate_confidence(exits, validation)
    candidates: dict[str, nn.Module] = {"no exits": model}
    for label, rule in rules(exits, validation).items():
        candidates[label] = with_rule(exits, rule)
        print(f"{label}: {rule}\n{exit_report(candidates[label], test).table()}", flush=True)
    speeds(candidates, test.inputs, seconds)
    halting = add_halting(model, scale=0.1, center=0.8)
    with torch.no_grad():
        kept = halting.halt(test.inputs[:64]).kept.float().mean(0).tolist()
    print("tokens that enter each block:", [round(value, 1) for value in kept])
    speeds({"no halting": model, "dropped": halting, "masked": Masked(halting)}, test.inputs[:64], seconds / 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="steps of training the exits")
    parser.add_argument("--seconds", type=float, default=12.0, help="budget of each of the measurements")
    parser.add_argument("--whole", action="store_true", help="train the model together with its exits")
    given = parser.parse_args()
    main(given.steps, given.seconds, given.whole)
