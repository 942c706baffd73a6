"""What each part of LightViT brings: `lab_lightvit` whole and with one part taken out, beside a ViT and a CNN of its size.

`chapters/components/lightvit` shows what this study stores. All candidates see the same pictures in the same order, for
the same steps, with the same optimizer. The rates of the three families were the better of two or three on shapes held
out for validation, with one seed; nothing was chosen on the test pictures.
"""

from __future__ import annotations

from typing import Any

from .. import data
from .comparison import Candidate, compare

CANDIDATES: dict[str, Candidate] = {
    "LightViT": ("lab_lightvit", {}, {"lr": 2.4e-2}),
    "without global tokens": ("lab_lightvit", {"num_tokens": 0}, {"lr": 2.4e-2}),
    "without gates": ("lab_lightvit", {"gates": False}, {"lr": 2.4e-2}),
    "mean instead of maximum": ("lab_lightvit", {"pooling": "mean"}, {"lr": 2.4e-2}),
    "ViT": ("lab_vit", {}, {"lr": 1.2e-2}),
    "CNN": ("lab_cnn", {"widths": (36, 72, 144), "stem_stride": 2}, {"lr": 3e-2}),
}
SETTINGS = {"steps": 300, "batch_size": 64, "optimizer": "muon", "schedule": "linear", "augment": ("flip",)}
SEEDS = (0, 1, 2)


def lightvit_parts(dataset: str) -> dict[str, Any]:
    """Cost and test accuracy of every candidate on `dataset`, a run for each seed."""
    splits = {split: data.load(dataset, split) for split in data.SPLITS}
    rows = compare(CANDIDATES, splits, SEEDS, checks=4, threads=1, **SETTINGS)
    return {"dataset": dataset, "train_pictures": len(splits["train"]), **SETTINGS, "candidates": rows}
