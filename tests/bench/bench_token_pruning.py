"""What dropped tokens save: time against MACs for DeiT-S, and pictures of different lengths grouped against padded.

Weights and pictures are random: time does not depend on them, but for "ats", where the lengths are what random ones
give. Candidates take turns; ratios have 95 % intervals, and none is told where the machine is too noisy. `realised` is
the gain in time over the gain in MACs. Two minutes with one thread; LIGHTVIT_BENCH_THREADS sets the threads.
"""

import argparse
import copy
import os

import torch

from lightvit_lab import models, profiling
from lightvit_lab.dynamic.token_pruning.choosing import kept_patches
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens

LAYERS = (3, 6, 9)
SHARPER = 5.0        # fresh weights look at all tokens alike, so that every picture would keep as many


def fixed(model: torch.nn.Module, inputs: torch.Tensor, budget_s: float, threads: int) -> None:
    """Methods that keep the same number of every picture: ratio of time to the whole model beside that of MACs."""
    candidates = {"whole": model}
    for keep_ratio in (0.7, 0.5):
        candidates |= {f"{method} {keep_ratio}": prune_tokens(model, keep_ratio, LAYERS, method)
                       for method in (("evit", "dynamicvit") if keep_ratio == 0.7 else ("evit",))}
    found = profiling.measure(candidates, inputs, budget_s=budget_s, threads=threads)
    macs = {label: profiling.count(candidate).macs for label, candidate in candidates.items()}
    print(f"DeiT-S, batch {len(inputs)}, blocks {LAYERS}: {found.conditions['machine']}; {found.stopped}")
    for label in [label for label in candidates if label != "whole"]:
        ratio, fewer = found.ratio("whole", label), macs["whole"] / macs[label]
        realised = "" if ratio.value is None else f", realised {ratio.value / fewer:.2f}"
        print(f"    {label:15} MACs {fewer:.2f}x fewer, gain in time {ratio}{realised}")


def ragged(model: torch.nn.Module, inputs: torch.Tensor, budget_s: float, threads: int) -> None:
    """A method that keeps another number of each picture: on packed tokens, on a padded frame, and one by one."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.mul_(SHARPER)
    candidates = {"whole": model} | {lengths: prune_tokens(model, 0.7, LAYERS, "ats", lengths=lengths)
                                     for lengths in ("padded", "grouped")}
    counts = [(patches >= 0).sum(1).tolist() for patches in kept_patches(candidates["grouped"], inputs)]
    found = profiling.measure(candidates, inputs, budget_s=budget_s, threads=threads)
    print(f"ats 0.7, batch {len(inputs)}: patches kept after blocks {LAYERS}: {counts}; {found.stopped}")
    for label, base in (("padded", "whole"), ("grouped", "whole"), ("grouped", "padded")):
        print(f"    {base} / {label}: {found.ratio(base, label)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of each measurement")
    arguments = parser.parse_args()
    threads = int(os.environ.get("LIGHTVIT_BENCH_THREADS", "1"))
    torch.manual_seed(0)
    deit = models.create_model("deit_small_patch16_224").eval()
    noise = torch.randn(2 * arguments.batch, 3, 224, 224)
    fixed(deit, noise[: arguments.batch], arguments.budget, threads)
    ragged(deit, noise, arguments.budget, threads)
