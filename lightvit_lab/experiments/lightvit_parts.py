"""What each part of LightViT brings: `lab_lightvit` whole, with one part out, and a ViT and a CNN.

`chapters/components/lightvit` shows what these studies store. All candidates see the same pictures
in the same order, for the same steps, with the same optimizer. The rates of the three families were
the better of two or three on shapes held out for validation, with one seed; nothing was chosen on
the test pictures.
"""

from __future__ import annotations

from typing import Any

from .comparison import Splits, candidates, comparison

SETTINGS = {"steps": 300, "batch_size": 64, "optimizer": "muon", "schedule": "linear",
            "augment": ("flip",)}


def _result(splits: Splits, rows: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": splits["train"].name, "train_pictures": len(splits["train"]), **SETTINGS,
            "candidates": rows}


STUDIES = tuple(comparison(f"lightvit_parts_{dataset}", dataset, candidates("lightvit_parts"),
                           _result, {**SETTINGS, "checks": 4, "threads": 1})
                for dataset in ("shapes", "fashion_mnist"))
