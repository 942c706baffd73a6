"""A small, untrained model and the digits in the place of what the studies change."""

import pytest
import torch

from lightvit_lab import models
from lightvit_lab.experiments import base, kit

FINE_TUNING = {"steps": 3, "batch_size": 16, "lr": 1e-3, "precision": "float32", "attention": "fused"}


@pytest.fixture(scope="session")
def put_base():
    """A function that puts it into `base`, its runs cached in a folder; undone with the patch that it is given."""
    def put(patch, folder, depth):
        torch.manual_seed(0)
        model = models.create_model("lab_vit_student", dim=32, depth=depth).eval()
        for name, value in {"model": lambda: model, "mark": lambda: "untrained", "DATASET": "digits", "TEST": 96,
                            "FINE_TUNING": FINE_TUNING,
                            "TUNINGS": {"fine-tuned": FINE_TUNING, base.LONG: FINE_TUNING}}.items():
            patch.setattr(base, name, value)
        patch.setattr(kit.runtime, "cache", lambda: folder)
    return put
