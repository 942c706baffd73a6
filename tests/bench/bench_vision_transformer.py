"""The lab's ViT with fused attention beside its written-out form and beside timm's, same weights, taking turns.

`make bench` prints the ratios of times with their intervals; above 1 means that the rival is slower.
"""

import torch

from lightvit_lab import models, profiling
from lightvit_lab.models.vision_transformer import VisionTransformer

SIZES = dict(patch_size=16, depth=12, num_heads=3)


def candidates() -> dict[str, torch.nn.Module]:
    """DeiT-Tiny's shape three times, with the same weights."""
    timm = models.create_model("deit_tiny_patch16_224").eval()
    lab = {label: VisionTransformer(image_size=224, dim=192, num_classes=1000, embedding="patch", fused=fused, **SIZES)
           for label, fused in (("fused", True), ("written out", False))}
    for model in lab.values():
        model.load_state_dict(timm.state_dict())
    return {**lab, "timm": timm}


def main() -> None:
    """Print one block of ratios per batch size."""
    torch.manual_seed(0)
    models = candidates()
    for batch in (1, 8, 64):
        times = profiling.measure(models, torch.randn(batch, 3, 224, 224), budget_s=20)
        print(f"batch {batch}\n{times.table(base='fused')}")


if __name__ == "__main__":
    main()
