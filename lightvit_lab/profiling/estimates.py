"""The cost of a plain ViT by the formulas of `chapters/foundations/vision_transformer`."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import plain_numbers, require_range, require_size


class Estimate(NamedTuple):
    """Cost of one picture; `macs` include `attention_macs`, the two products of no layer."""

    tokens: int
    params: int
    macs: int
    attention_macs: int

    @property
    def attention_share(self) -> float:
        """Attention's own two products as a share of all MACs, 0 to 1."""
        return self.attention_macs / self.macs


@plain_numbers
def estimate_vit(image_size: int | tuple[int, int] = 224, patch_size: int = 16, dim: int = 192,
                 depth: int = 12, num_classes: int = 1000) -> Estimate:
    """Tokens, parameters and MACs of a ViT with plain patches, a class token and an MLP ratio of 4.

    Pictures have three channels; `image_size` is one number for both sides, or (height, width).
    Exact: `count` finds the same numbers in the built model. The number of heads does not enter.
    Raises LabError unless all sizes are positive and patches fill the picture.
    """
    for name, value in {"patch_size": patch_size, "dim": dim, "depth": depth,
                        "num_classes": num_classes}.items():
        require_range("estimate_vit", name, value, 1)
    height, width = require_size("estimate_vit", "image_size", image_size, patch_size,
                                 f"patches are {patch_size} x {patch_size}")
    patches = (height // patch_size) * (width // patch_size)
    tokens, pixels = patches + 1, 3 * patch_size**2
    attention = depth * 2 * tokens**2 * dim
    macs = patches * pixels * dim + depth * 12 * tokens * dim**2 + attention + dim * num_classes
    # embedding; class token and positions; last norm; classifier
    around = (pixels + 1) * dim + (tokens + 1) * dim + 2 * dim + (dim + 1) * num_classes
    return Estimate(tokens, around + depth * (12 * dim**2 + 13 * dim), macs, attention)
