"""`make parity`: the library against every fixture under LIGHTVIT_PARITY, by default
../shared/parity.

A relative path counts from the root of the checkout. Ends with 1 if a case failed; where there are
no fixtures it says so and ends with 0.
"""

import os
import sys
from pathlib import Path

import torch

from lightvit_lab.runtime import ensure_torchvision

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run all cases; returns the exit status."""
    ensure_torchvision()  # before the adapters import timm
    torch.set_num_threads(1)
    from parity.runner import run

    return run(ROOT / (os.environ.get("LIGHTVIT_PARITY") or "../shared/parity"), sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
