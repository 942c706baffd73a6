"""Models of a few thousand weights, four blocks deep, of the kinds that exits, halting and skipping know."""

from drawn_weights import fill, pictures

from lightvit_lab import models

LAB = ("lab_vit", {"dim": 24, "depth": 4, "num_heads": 3, "patch_size": 8, "mlp_ratio": 2.0})
DISTILLED = ("lab_vit", {**LAB[1], "embedding": "patch", "distilled": True})
TIMM = ("deit_tiny_patch16_224", {"img_size": 32, "depth": 4, "embed_dim": 24, "mlp_ratio": 2.0, "num_classes": 10})
MEAN = ("vit_tiny_patch16_224", {**TIMM[1], "global_pool": "avg", "class_token": False, "init_values": 0.5})
EVERY = {"lab": LAB, "distilled": DISTILLED, "timm": TIMM, "mean": MEAN}
BATCH = pictures(0, 7, 3, 32, 32)


def small(kind="lab"):
    name, arguments = EVERY[kind]
    model = models.create_model(name, **arguments)
    recipe = model.recipe
    model = fill(model)
    model.recipe = recipe
    return model
