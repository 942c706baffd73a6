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
    from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
    from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity

    small = {"image_size": 16, "patch_size": 8, "dim": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 1}
    timm = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "num_heads": 2, "depth": 2, "num_classes": 3}
    light = {"embed_dims": [8, 16], "num_layers": [1, 1], "num_heads": [2, 2], "num_tokens": 2, "neck_dim": 8}
    return {
        "model_1": (lambda: models.create_model("lab_vit_student", **small), 16),
        "model_2_pruned": (lambda: pruning.prune_head_width(pruning.prune_blocks(pruning.prune_heads(pruning.prune_mlp(
            models.create_model("deit_tiny_patch16_224", **timm), 0.5), 0.5), 0.5), 0.5), 16),
        "model_2_factors": (lambda: sparsity.prune_weights(low_rank.factorize(pruning.prune_embedding(
            models.create_model("lab_vit_student", **small), 0.25), rank=1), 0.5), 16),
        "model_2_attention": (lambda: low_rank_attention.replace_attention(
            models.create_model("lab_vit_student", **small), "linformer", rank=3), 16),
        "model_2_lightvit": (lambda: low_rank.factorize(pruning.prune_heads(
            models.create_model("lab_lightvit", **light), 0.5), energy=0.3), 32),
    }


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
