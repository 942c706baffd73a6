"""What this machine does at most, and where the modules of two models stand under that roof.

`make bench` prints the machine's card, then for each model and batch the modules that take longest.
"""

import torch

from lightvit_lab import models, profiling

NAMES = ("lightvit_tiny", "deit_tiny_patch16_224")


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
            print(profiling.roofline(model, torch.randn(batch, 3, 224, 224), peaks).table(top=12))


if __name__ == "__main__":
    main()
