"""What this machine does at most, and where the modules of two models stand under that roof.

`make bench` prints the machine's card, then for each model and batch the modules that take longest.
"""

import torch

from lightvit_lab import models, profiling

NAMES = ("lightvit_tiny", "deit_tiny_patch16_224")


def line(name: str, work: profiling.Work) -> str:
    """One module: what it does, how fast, and what the machine would allow."""
    return (f"{name:32} {work.macs / 1e6:9,.1f} {work.moved_bytes / 2**20:8.2f} {work.intensity:7.1f} "
            f"{work.time_ms:8.3f} {work.achieved_flops_s / 1e9:9.1f} {work.attainable_flops_s / 1e9:10.1f} "
            f"{work.share:6.1%}  {work.limit}")


def print_table(found: profiling.Roofline, top: int) -> None:
    """The `top` modules that take longest; then the whole, what is no product, and what was not counted."""
    print(f"{'module':32} {'MMACs':>9} {'MiB':>8} {'FLOP/B':>7} {'ms':>8} {'GFLOP/s':>9} {'attainable':>10} {'share':>6}  limit")
    for work in sorted(found.modules, key=lambda work: -work.time_ms)[:top]:
        print(line(work.name or "(itself)", work))
    print(line("whole", found.whole))
    print(f"without products: {found.other_ms:.2f} ms, {found.other_share:.1%} of the time; hooks slow it down "
          f"{found.slowdown:.2f} times; medians of {found.rounds} rounds, {found.machine}")
    for name, share in found.uncounted.items():
        print(f"NOT counted: {name}, {share:.1%} of all bytes moved")


def main() -> None:
    """Print the card, measured anew, and one table per model and batch size, at the current number of threads."""
    card = profiling.machine_card(refresh=True)
    print(card["device"], card["date"], f"torch {card['versions']['torch']}")
    for peaks in (profiling.Peaks(**entry) for entry in card["peaks"]):
        print(f"    {peaks.dtype:9} threads: {peaks.threads}  {peaks.flops_s / 1e9:8.1f} GFLOP/s  "
              f"{peaks.bytes_s / 1e9:6.1f} GB/s  ridge at {peaks.ridge:.1f} FLOPs per byte")
    peaks = profiling.machine_peaks()
    for name in NAMES:
        model = models.create_model(name)
        for batch in (1, 8):
            print(f"\n{name}, batch {batch}")
            print_table(profiling.roofline(model, torch.randn(batch, 3, 224, 224), peaks), top=12)


if __name__ == "__main__":
    main()
