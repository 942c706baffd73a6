"""One-shot pruning: how much accuracy compensation saves, and how much of the MACs saved is saved in time.

`accuracy`: the zoo's teacher without half of its neurons and a quarter of its heads, as plain magnitude leaves it and
refitted; the goal is at most half of the plain loss. `speed`: DeiT-S pruned in three ways, taking turns with the whole;
the goal is 0.85 of the gain in MACs. `seconds`: compressing DeiT-S with 32 calibration pictures; the goal is 60 s.
LIGHTVIT_BENCH_THREADS sets the threads.
"""

import argparse
import os
import time

import torch

from lightvit_lab import checkpoint, data, models, profiling
from lightvit_lab.compression.pruning.pruners import prune_embedding, prune_head_width, prune_heads, prune_mlp

RECIPES = {"magnitude": {}, "magnitude, compensated": {"compensate": True},
           "magnitude of all layers": {"budget": "global"},
           "magnitude of all layers, compensated": {"budget": "global", "compensate": True},
           "activation, compensated": {"importance": "activation", "compensate": True},
           "fisher, compensated": {"importance": "fisher", "compensate": True},
           "fisher of all layers, compensated": {"importance": "fisher", "budget": "global", "compensate": True}}
DEIT = "deit_small_patch16_224"


def smaller(model, calibration, heads=0.25, **how):
    """`model` without half of its neurons and the share `heads` of its heads."""
    return prune_heads(prune_mlp(model, 0.5, calibration=calibration, **how), heads, calibration=calibration, **how)


@torch.inference_mode()
def right(model, pictures):
    """(pictures,) 1 where the model names the class, 0 where not."""
    parts = [pictures.batch(index) for index in torch.arange(len(pictures)).split(250)]
    return torch.cat([(model(inputs).argmax(1) == labels).double() for inputs, labels in parts])


def interval(whole, plain, ours, draws=2000):
    """95 % bootstrap interval, over pictures, of our loss over the plain one."""
    index = torch.randint(len(whole), (draws, len(whole)), generator=torch.Generator().manual_seed(0))
    ratios = ((whole - ours)[index].mean(1) / (whole - plain)[index].mean(1)).sort().values
    return ratios[int(0.025 * draws)].item(), ratios[int(0.975 * draws)].item()


def accuracy(count):
    """Print what each recipe loses on test pictures, in points, and its share of what plain magnitude loses."""
    model = checkpoint.load("zoo:lab_vit_teacher/cifar10")
    calibration = data.load("cifar10", "train", count=256).batch(torch.arange(256))
    pictures = data.load("cifar10", "test", count=count)
    whole = right(model, pictures)
    print(f"zoo:lab_vit_teacher/cifar10: {whole.mean():.2%} of {len(whole):,} test pictures right; then 50 % of the "
          "neurons and 25 % of the heads go")
    plain = None
    for label, how in RECIPES.items():
        found = right(smaller(model, calibration, **how), pictures)
        plain = found if plain is None else plain
        loss, share = 100 * (whole - found), (whole - found).mean() / (whole - plain).mean()
        half, (low, high) = 1.96 * loss.std() / len(loss) ** 0.5, interval(whole, plain, found)
        print(f"    {label}: loses {loss.mean():.2f} +- {half:.2f} points, {share:.2f} of plain magnitude's "
              f"({low:.2f} to {high:.2f})", flush=True)


def candidates(model):
    """DeiT-S pruned in each way that makes matrices smaller."""
    return {"neurons and heads": smaller(model, None, 1 / 3), "head width": prune_head_width(model, 0.5),
            "embedding": prune_embedding(model, 1 / 3, multiple_of=64)}


def speed(seconds, batch):
    """Print, for each way, the gain in time over the gain in MACs, at `batch` pictures of 224 pixels."""
    torch.manual_seed(0)
    model = models.create_model(DEIT).eval()
    found = {"whole": model, **candidates(model)}
    macs = {label: profiling.count(one).macs for label, one in found.items()}
    times = profiling.measure(found, torch.randn(batch, 3, 224, 224), budget_s=seconds, threads=torch.get_num_threads())
    print(f"{DEIT}, batch {batch}\n{times.table()}")
    for label in list(found)[1:]:
        gain, ratio = macs["whole"] / macs[label], times.ratio("whole", label)
        value = "too noisy" if ratio.value is None else f"{ratio.value / gain:.2f}"
        print(f"    {label}: MACs {gain:.2f} times fewer, time {ratio}; time gain / MAC gain {value} "
              f"({ratio.low / gain:.2f} to {ratio.high / gain:.2f})")


def seconds_of_compression():
    """Print the seconds that pruning DeiT-S with compensation takes, in all and on the processor."""
    torch.manual_seed(0)
    model, inputs = models.create_model(DEIT).eval(), torch.randn(32, 3, 224, 224)
    wall, cpu = time.perf_counter(), time.process_time()
    smaller(model, inputs, 1 / 3, compensate=True)
    print(f"{DEIT}, 32 calibration pictures, neurons and heads, compensated: {time.perf_counter() - wall:.1f} s "
          f"({time.process_time() - cpu:.1f} s of processor time)")


def main():
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="accuracy, speed, seconds")
    parser.add_argument("--pictures", type=int, help="how many of the test pictures; all of them by default")
    parser.add_argument("--seconds", type=float, default=60, help="of taking turns")
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1")))
    parts = given.parts or ["accuracy", "speed", "seconds"]
    if "accuracy" in parts:
        accuracy(given.pictures)
    if "speed" in parts:
        speed(given.seconds, given.batch)
    if "seconds" in parts:
        seconds_of_compression()


if __name__ == "__main__":
    main()
