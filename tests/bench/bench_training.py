"""Time and steps to a test accuracy on real pictures: `lab_cct` by `fit`, and the shape of CCT-2/3x2 at equal steps.

Goals: CIFAR-10 80 % in 3 minutes and 86 % in 10, Fashion-MNIST 90 % in 2, on two cores, median of three seeds, scoring
counted. `make bench` runs the short ones; `python tests/bench/bench_training.py cifar10_80 --seeds 3` any. Needs
LIGHTVIT_DATA, or downloads. Batch, schedule and whitened stem were chosen on pictures held out of the training split.
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import torch

from lightvit_lab import data, models, training
from lightvit_lab.runtime import device_name


@dataclass(frozen=True)
class Goal:
    """A set, the accuracy to reach, in how many minutes, and the steps that are to do it."""

    dataset: str
    accuracy: float
    minutes: float
    steps: int
    image_size: int
    augment: tuple[str, ...]


GOALS = {
    "fashion_mnist_90": Goal("fashion_mnist", 0.90, 2, 800, 28, ("flip",)),
    "cifar10_80": Goal("cifar10", 0.80, 3, 1350, 32, ("flip",)),
    "cifar10_86": Goal("cifar10", 0.86, 10, 4600, 32, ("flip", "crop")),
}
MODELS = ("lab_cct", "cct_2_3x2")


def run(goal: Goal, name: str, seed: int, steps: int, lr: float) -> tuple[float, float, training.Score]:
    """Seconds of the wall and of the processor for training and scoring, and the score with mirrored pictures."""
    train, test = (data.load(goal.dataset, split, goal.image_size) for split in ("train", "test"))
    torch.manual_seed(seed)
    model = models.create_model(name, image_size=goal.image_size)
    wall, cpu = time.perf_counter(), time.process_time()
    if name == "lab_cct":
        model.tokenizer.whiten(train.batch(torch.arange(2000))[0])
    training.fit(model, train, steps=steps, batch_size=128, lr=lr, optimizer="muon", schedule="linear", warmup=0.2,
                 label_smoothing=0.1, augment=goal.augment, seed=seed, progress=False)
    score = training.evaluate(model, test, flip=True)
    return time.perf_counter() - wall, time.process_time() - cpu, score


def main() -> None:
    """Print one line per run, and per goal and model the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("goals", nargs="*", help=f"any of {', '.join(GOALS)}; all but the last if none is given")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="other than the goal's")
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--models", nargs="*", default=MODELS)
    given = parser.parse_args()
    print(device_name())
    for label in given.goals or list(GOALS)[:-1]:
        goal = GOALS[label]
        steps = given.steps or goal.steps
        for name in given.models:
            runs = [run(goal, name, seed, steps, given.lr) for seed in range(given.seeds)]
            for seed, (wall, cpu, score) in enumerate(runs):
                print(f"{label}, {name}, seed {seed}: {steps} steps, {wall:.0f} s, {cpu:.0f} CPU s, test {score}", flush=True)
            wall, accuracy = (statistics.median(values) for values in ([w for w, _, _ in runs], [s.accuracy for *_, s in runs]))
            verdict = "met" if accuracy >= goal.accuracy and wall <= 60 * goal.minutes else "not met"
            print(f"{label}, {name}: median {accuracy:.1%} in {wall / 60:.1f} min "
                  f"(goal {goal.accuracy:.0%} in {goal.minutes:g}; {verdict})", flush=True)


if __name__ == "__main__":
    main()
