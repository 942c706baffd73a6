"""What each part of LightViT brings: `lab_lightvit` whole, with one part out, and a ViT and a CNN.

`chapters/components/lightvit` shows what these studies store. All candidates see the same pictures
in the same order, for the same steps, with the same optimizer. The rates of the three families were
the better of two or three on shapes held out for validation, with one seed; nothing was chosen on
the test pictures.
"""

from __future__ import annotations

from typing import Any

from .comparison import Splits, candidate, comparison

ROWS = {
    "LightViT": candidate("lab_lightvit", lr=2.4e-2),
    "without global tokens": candidate("lab_lightvit", {"num_tokens": 0}, lr=2.4e-2),
    "without gates": candidate("lab_lightvit", {"gates": False}, lr=2.4e-2),
    "mean instead of maximum": candidate("lab_lightvit", {"pooling": "mean"}, lr=2.4e-2),
    "ViT": candidate("lab_vit", lr=1.2e-2),
    "CNN": candidate("lab_cnn", {"widths": (36, 72, 144), "stem_stride": 2}, lr=3e-2),
}
SETTINGS = {"steps": 300, "batch_size": 64, "optimizer": "muon", "schedule": "linear",
            "augment": ("flip",)}


def _result(splits: Splits, rows: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": splits["train"].name, "train_pictures": len(splits["train"]), **SETTINGS,
            "candidates": rows}


STUDIES = tuple(comparison(f"lightvit_parts_{dataset}", dataset, ROWS, _result,
                           {**SETTINGS, "checks": 4, "threads": 1})
                for dataset in ("shapes", "fashion_mnist"))
