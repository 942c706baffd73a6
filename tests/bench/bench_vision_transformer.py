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
        fused = times["fused"]
        print(f"batch {batch}: fused {fused.latency_ms:.1f} ms ({fused.rounds} rounds; {fused.machine})")
        for label in ("written out", "timm"):
            low = times[label].interval_ms[0] / fused.interval_ms[1]
            high = times[label].interval_ms[1] / fused.interval_ms[0]
            ratio = times[label].latency_ms / fused.latency_ms
            print(f"    {label} / fused: {ratio:.2f} (interval {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
