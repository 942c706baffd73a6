"""Small models of drawn weights, and their reference numbers, for the tests of dynamic networks."""

import json
from pathlib import Path

from drawn_weights import fill, pictures
from torch import nn

from lightvit_lab import models

INPUTS = pictures(1, 4, 3, 16, 16)


def lab(**arguments) -> nn.Module:
    """The lab's ViT on 16 px: 16 image tokens and a class token, 3 blocks."""
    return fill(models.create_model("lab_vit", **{"image_size": 16, "depth": 3, "dim": 48, **arguments}))


def deit(name: str = "deit_tiny_patch16_224", **arguments) -> nn.Module:
    """timm's DeiT of the same size."""
    return fill(models.create_model(name, img_size=16, patch_size=4, depth=3, embed_dim=48, num_heads=3, **arguments))


def reference(name: str) -> dict:
    """What official code said, from `NAME_reference.json` beside this file."""
    return json.loads((Path(__file__).parent / f"{name}_reference.json").read_text())
