"""Makes the stored samples: `python tests/checkpoint/samples.py` writes those that do not lie there yet, and no others.

A sample is a file of a form that the lab once wrote, and the logits it gave then. Never make one anew: what it shows is
that files of that day still load.
"""

import json
import sys
from pathlib import Path

import numpy
import torch

FOLDER = Path(__file__).parent / "samples"


def inputs(size):
    """(2, 3, size, size) pictures by numpy's oldest generator, which has not changed in twenty years."""
    return torch.from_numpy(numpy.random.RandomState(0).standard_normal((2, 3, size, size)).astype("float32"))


def samples():
    """Name -> a function that makes the model, and the size of its pictures."""
    from lightvit_lab import models

    small = {"image_size": 16, "patch_size": 8, "dim": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 1}
    return {"model_1": (lambda: models.create_model("lab_vit_student", **small), 16)}


def main():
    from lightvit_lab import checkpoint

    FOLDER.mkdir(exist_ok=True)
    for name, (make, size) in samples().items():
        path = FOLDER / f"{name}.safetensors"
        if path.exists():
            continue
        torch.manual_seed(0)
        model = make().eval()
        checkpoint.save(model, path)
        with torch.inference_mode():
            logits = model(inputs(size)).tolist()
        path.with_suffix(".json").write_text(json.dumps({"size": size, "logits": logits}) + "\n", encoding="utf-8")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
