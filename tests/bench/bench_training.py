"""Time and steps to a test accuracy: a CNN and `lab_vit` on the shapes, and `lab_cct` on photographs by `fit`.

Goals on two cores, scoring counted: shapes 95 % by a CNN in 1 minute and 90 % by `lab_vit` in 2; as the median of three
seeds, CIFAR-10 80 % in 3 minutes and 86 % in 10, Fashion-MNIST 90 % in 2, beside equal steps of the shape of CCT-2/3x2.
`make bench` runs the short ones; `python tests/bench/bench_training.py cifar10_80 --seeds 3` any. Needs LIGHTVIT_DATA, or
downloads. Batch, rate, schedule and whitened stem were chosen on pictures held out of the training split.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightvit_lab import data, models, training
from lightvit_lab.runtime import device_name

CCT = {"lab_cct": {}, "cct_2_3x2": {}}
PHOTOGRAPHS = {"batch_size": 128, "lr": 9e-3, "optimizer": "muon", "schedule": "linear", "warmup": 0.2,
               "label_smoothing": 0.1}


@dataclass(frozen=True)
class Goal:
    """A set, the accuracy to reach, in how many minutes, the steps that are to do it, and how: models and settings."""

    dataset: str
    accuracy: float
    minutes: float
    steps: int
    models: dict[str, dict[str, Any]] = field(default_factory=lambda: CCT)
    image_size: int = 32
    augment: tuple[str, ...] = ("flip",)
    fit: dict[str, Any] = field(default_factory=lambda: PHOTOGRAPHS)


GOALS = {
    "shapes_95": Goal("shapes", 0.95, 1, 1000, {"lab_cnn": {"widths": (16, 32, 64), "stem_stride": 2}},
                      fit={"batch_size": 64, "lr": 4e-3}),
    "shapes_90": Goal("shapes", 0.90, 2, 480, {"lab_vit": {}},
                      fit={"batch_size": 64, "lr": 1.2e-2, "optimizer": "muon", "schedule": "linear"}),
    "fashion_mnist_90": Goal("fashion_mnist", 0.90, 2, 600, image_size=28),
    "cifar10_80": Goal("cifar10", 0.80, 3, 960),
    "cifar10_86": Goal("cifar10", 0.86, 10, 3000, augment=("flip", "crop")),
}


def run(goal: Goal, name: str, seed: int, changes: dict[str, Any]) -> tuple[float, float, training.Score]:
    """Seconds of the wall and of the processor for training and scoring, and the score with mirrored pictures."""
    train, test = (data.load(goal.dataset, split, goal.image_size) for split in ("train", "test"))
    torch.manual_seed(seed)
    size = {} if goal.image_size == 32 else {"image_size": goal.image_size}
    model = models.create_model(name, **size, **goal.models[name])
    wall, cpu = time.perf_counter(), time.process_time()
    if name == "lab_cct":
        whiten(model.tokenizer.layers[0][0], train.batch(torch.arange(2000))[0])
    training.fit(model, train, augment=goal.augment, seed=seed, progress=False, **goal.fit | changes)
    score = training.evaluate(model, test, flip=True)
    return time.perf_counter() - wall, time.process_time() - cpu, score


@torch.no_grad()
def whiten(stem: nn.Conv2d, images: Tensor, floor: float = 1e-2) -> None:
    """Set the stem's 4x4 filters to the principal components of patches of `images`, and their negatives.

    A component is divided by the root of its variance plus `floor`, so that all answer about equally strongly.
    """
    patches = F.unfold(images, 4, stride=2).transpose(1, 2).flatten(0, 1)  # (patches, C * 16)
    variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (components / (variances + floor).sqrt()).T.flip(0)[: stem.out_channels // 2]
    stem.weight.copy_(torch.cat([filters, -filters]).view_as(stem.weight))


def main() -> None:
    """Print one line per run, and per goal and model the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("goals", nargs="*", help=f"any of {', '.join(GOALS)}; all but the last if none is given")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="other than the goal's")
    parser.add_argument("--lr", type=float, help="other than the goal's")
    parser.add_argument("--threads", type=int, help="instead of as many as pay")
    parser.add_argument("--models", nargs="*", help="some of the goal's")
    given = parser.parse_args()
    print(device_name())
    for label in given.goals or list(GOALS)[:-1]:
        goal = GOALS[label]
        changes = {"steps": given.steps or goal.steps, "threads": given.threads} | ({"lr": given.lr} if given.lr else {})
        for name in given.models or goal.models:
            runs = [run(goal, name, seed, changes) for seed in range(given.seeds)]
            for seed, (wall, cpu, score) in enumerate(runs):
                print(f"{label}, {name}, seed {seed}: {changes['steps']} steps, {wall:.0f} s, {cpu:.0f} CPU s, test {score}", flush=True)
            wall, accuracy = (statistics.median(values) for values in ([w for w, _, _ in runs], [s.accuracy for *_, s in runs]))
            verdict = "met" if accuracy >= goal.accuracy and wall <= 60 * goal.minutes else "not met"
            print(f"{label}, {name}: median {accuracy:.1%} in {wall / 60:.1f} min "
                  f"(goal {goal.accuracy:.0%} in {goal.minutes:g}; {verdict})", flush=True)


if __name__ == "__main__":
    main()
