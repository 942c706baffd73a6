"""What a teacher costs a step: none, one that runs beside the student, and its answers read from disk.

`lab_vit_student` on CIFAR-10 with the zoo's `lab_cnn` as teacher (its size counts here, not its weights), the three
runs taking turns step by step. Goals: a step with stored logits costs at most 1.05 of a supervised one, and the store
at most 2 % of the images' bytes an epoch. Then what the teacher brought in the stored runs, of which the goal is 1.5
points: `python -m lightvit_lab.experiments.studies distillation_cifar10` makes them. Needs LIGHTVIT_DATA, or downloads.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from lightvit_lab import data, models, training
from lightvit_lab.distillation import ModelOutputs, distill, store_logits
from lightvit_lab.distillation.response_distillation.objectives import Labels, SoftTargets
from lightvit_lab.experiments import results
from lightvit_lab.experiments.zoo import RECIPES
from lightvit_lab.runtime import device, device_name
from lightvit_lab.training.loop import _Run
from lightvit_lab.training.probing import applied

BATCH, WARM = 128, 2
VIEWS = {"batch_size": BATCH, "augment": ("flip", "crop")}
THREADS = int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1"))


class Ready(Exception):
    """Raised with the run that `fit` has made ready, in place of its steps."""


def made_ready(start: Callable[[], training.History]) -> _Run:
    """The run that `start()` would go through, before its first step."""
    def stop(run: _Run, *_: object) -> None:
        raise Ready(run)

    go_on, _Run.go_on = _Run.go_on, stop
    try:
        start()
    except Ready as found:
        return found.args[0]
    finally:
        _Run.go_on = go_on
    raise RuntimeError("fit took no step")


def seconds_of_step(run: _Run) -> float:
    """Seconds of one step: of the processor, which neighbours hardly change; on a GPU those of the wall."""
    clock = time.perf_counter if device().type == "cuda" else time.process_time
    start = clock()
    run._step(run.team.loss_of(run.model.train(), run.objective))
    run.unread[-1].tolist()                     # waits for a GPU, as looking at the loss does
    return clock() - start


def interval_of_median(values: list[float]) -> tuple[float, float, float]:
    """Median, and the order statistics between which the true one lies with 95 % (normal approximation of ranks)."""
    ordered, count = sorted(values), len(values)
    reach = 0.98 * count**0.5
    low, high = max(0, int(count / 2 - reach)), min(count - 1, int(count / 2 + reach))
    return statistics.median(ordered), ordered[low], ordered[high]


def compare(runs: dict[str, _Run], turns: int) -> None:
    """Print the time of a step of each run, and its ratio to the first, with intervals over the turns."""
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    with ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(applied(run.model, run.history.choices))
        for turn in range(WARM + turns):
            for label in list(runs) if turn % 2 else list(reversed(runs)):
                seconds[label].append(seconds_of_step(runs[label]))
    first = next(iter(runs))
    for label, values in seconds.items():
        each = interval_of_median([1000 * value for value in values[WARM:]])
        ratio = interval_of_median([value / base for value, base in zip(values[WARM:], seconds[first][WARM:])])
        goal = "; goal 1.05" if label == "stored logits" else ""
        print(f"{label}: {each[0]:.1f} ms a step ({each[1]:.1f} to {each[2]:.1f}), {ratio[0]:.3f} of {first} "
              f"({ratio[1]:.3f} to {ratio[2]:.3f}{goal})", flush=True)


def main() -> None:
    """Print what storing took, how large the store is, and one line for each way of training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=25, help="steps of each way")
    parser.add_argument("--count", type=int, default=1024, help="pictures")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print(f"{device_name()}, batches of {BATCH}")
    pictures = data.load("cifar10", count=given.count)
    teacher = models.create_model("lab_cnn", **RECIPES["lab_cnn/cifar10"]["arguments"]).eval()
    steps = WARM + given.turns
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        stored = store_logits(teacher, pictures, Path(folder) / "said", steps=steps, progress=False, **VIEWS)
        took, epochs = time.process_time() - start, steps * BATCH / len(pictures)
        print(f"store: {steps * BATCH / took:,.0f} images a second of the processor, once; {stored.nbytes / epochs:,.0f} "
              f"bytes an epoch, {stored.nbytes / epochs / pictures.pixels.nbytes:.2%} of those of the images (goal 2 %)")
        runs = ready_runs(pictures, {"a live teacher": teacher, "stored logits": stored}, steps)
        print_added(runs["stored logits"], given.turns)
        compare(runs, given.turns)
    print_gains()


def print_gains() -> None:
    """Print by how many points each objective of the stored runs beats the labels alone, seed by seed."""
    stored = results.load("distillation_cifar10")
    print(stored.origin)
    alone = [run["test"] for run in stored.data["rows"]["labels alone"]["runs"]]
    for label, row in stored.data["rows"].items():
        gains = [100 * (run["test"] - base) for run, base in zip(row["runs"], alone)]
        middle, low, high = training.mean_interval(gains)
        print(f"{label:32} {middle:+5.1f} points ({low:+.1f} to {high:+.1f}) beyond the labels alone (goal 1.5)")


def print_added(run: _Run, rounds: int) -> None:
    """Print what reading the answers and a second loss take, timed without the model: too little to show beside it."""
    batches = [run.batches(step) for step in range(1, 5)]
    seconds = {"labels": [], "both": []}
    for number in range(10 * rounds):
        batch = batches[number % len(batches)]
        for label, ways in seconds.items():
            start = time.process_time()
            student = ModelOutputs(torch.zeros(BATCH, 10, requires_grad=True))
            teacher = run.objective.live.outputs(batch) if label == "both" else student
            terms = dict(run.objective.objectives) if label == "both" else {"labels": Labels()}
            sum(term(student, teacher, batch) for term in terms.values()).backward()
            ways.append(time.process_time() - start)
    labels, both = (1000 * statistics.median(ways) for ways in seconds.values())
    print(f"what stored logits add to a step: {both - labels:.2f} ms (loss of the labels alone {labels:.2f} ms)")


def ready_runs(pictures: data.Pictures, teachers: dict[str, object], steps: int) -> dict[str, _Run]:
    """One run without a teacher, and one with each; all with what the first found to pay."""
    common = {**VIEWS, "steps": steps, "progress": False, "threads": THREADS}
    plain = made_ready(lambda: training.fit(models.create_model("lab_vit_student"), pictures, **common))
    chosen = {name: plain.history.choices[name] for name in ("precision", "attention")}
    print(chosen, flush=True)
    runs = {"labels alone": plain}
    for label, teacher in teachers.items():
        objectives = {"labels": Labels(), "soft targets": SoftTargets()}
        runs[label] = made_ready(lambda: distill(models.create_model("lab_vit_student"), teacher, pictures, objectives,
                                                 **common, **chosen))
    return runs


if __name__ == "__main__":
    main()
