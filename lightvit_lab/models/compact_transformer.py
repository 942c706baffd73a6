"""Compact transformers: convolutions make the tokens, a learned weighted mean of all replaces the
class token.

Hassani et al., Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704. The
defaults are ours, for training in minutes on two cores; `cct_2_3x2` gives the shape of the smallest
model of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components import Grid, convolution, initialise_linear, to_tokens
from ..errors import LabError, plain_numbers, require_images, require_multiple, require_range, require_size
from .vision_transformer import Block


class Residual(nn.Module):
    """Add to a map what a layer makes of it; the layer keeps the shape."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layer(maps)


@plain_numbers
class Tokenizer(nn.Module):
    """Images (batch, channels, height, width) -> tokens (batch, tokens, widths[-1]), row by row,
    and their grid.

    Each of `widths` is a 3x3 convolution and a 3x3 max-pooling that halves the map; with `residual`
    one more convolution is added to the pooled map. A `stem` width puts a 4x4 convolution of stride
    2 in front: it halves the map before the first expensive convolution. Pooling comes before the
    ReLU: the two commute, and a quarter is left to normalise and to cut off.
    """

    def __init__(self, widths: Sequence[int], in_channels: int = 3, stem: int = 0,
                 residual: bool = False, batch_norm: bool = True):
        super().__init__()
        self.in_channels, self.stem, self.halvings = in_channels, stem, len(widths)
        layers = [_step(in_channels, stem, batch_norm, kernel=4, stride=2)] if stem else []
        for narrow, wide in zip([stem or in_channels, *widths], widths):
            layers.append(_step(narrow, wide, batch_norm, pool=True))
            if residual:
                layers.append(Residual(_step(wide, wide, batch_norm)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        return to_tokens(self.layers(images))

    @torch.no_grad()
    def whiten(self, images: Tensor, floor: float = 1e-2) -> None:
        """Set the stem's filters to the principal components of 4x4 patches of `images`, and their
        negatives.

        A component is divided by the root of its variance plus `floor`, so that all answer about
        equally strongly. The filters are trained on from there. Raises LabError without a stem.
        Jordan, 94% on CIFAR-10 in 3.29 seconds, arXiv 2404.00498, holds such filters fixed.
        """
        if not self.stem:
            raise LabError("Tokenizer.whiten: stem=0, there are no 4x4 filters to set; build it with stem=32")
        require_images("Tokenizer.whiten", images, self.in_channels)
        patches = F.unfold(images, 4, stride=2).transpose(1, 2).flatten(0, 1)  # (patches, C * 16)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (components / (variances + floor).sqrt()).T.flip(0)[: self.stem // 2]
        self.layers[0][0].weight.copy_(torch.cat([filters, -filters]).view(self.stem, self.in_channels, 4, 4))


class SequencePool(nn.Module):
    """Mean of the tokens with learned weights: (batch, tokens, dim) -> (batch, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def shares(self, tokens: Tensor) -> Tensor:
        """Share of each token in the mean, (batch, tokens, 1); the shares of an image sum to 1."""
        return self.score(tokens).softmax(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.shares(tokens).transpose(1, 2) @ tokens).squeeze(1)


@plain_numbers
class CompactTransformer(nn.Module):
    """Images (batch, in_channels, height, width), normalised -> logits (batch, num_classes).

    `image_size` is the height and width of all pictures, one number for both or (height, width).
    `widths`, `stem`, `residual` and `batch_norm` shape the `Tokenizer`; the last of `widths` is the
    width of the tokens. Raises LabError on sizes that make no model.
    """

    num_prefix_tokens = 0   # no class token

    def __init__(self, image_size: int | tuple[int, int] = 32, in_channels: int = 3,
                 num_classes: int = 10, widths: Sequence[int] = (64, 128), stem: int = 32,
                 residual: bool = True, batch_norm: bool = True, depth: int = 2, num_heads: int = 4,
                 mlp_ratio: float = 2.0, qkv_bias: bool = True, fused: bool = True):
        super().__init__()
        height, width = _require_sizes(image_size, in_channels, widths, stem, depth, num_heads)
        self.image_size = (height, width) if isinstance(image_size, (list, tuple)) else height
        self.in_channels, self.num_classes = in_channels, num_classes
        self.dim = dim = widths[-1]
        self.tokenizer = Tokenizer(widths, in_channels, stem, residual, batch_norm)
        self.num_image_tokens = math.prod(self.grids(height, width)[0])
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_image_tokens, dim))
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, fused, qkv_bias) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pool = SequencePool(dim)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the paper's code does: normal of std 0.02 for linear layers, 0.2 for positions, He's
        for convolutions.
        """
        self.apply(initialise_linear)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.trunc_normal_(self.pos_embed, std=0.2)

    def no_weight_decay(self) -> set[str]:
        """The learned table, which no optimizer shall treat as a matrix."""
        return {"pos_embed"}

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """The one grid, (rows, columns), that the tokens of a picture of this size form."""
        halvings, stem = self.tokenizer.halvings, self.tokenizer.stem
        return [(_cells(height, halvings, stem), _cells(width, halvings, stem))]

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last block and the final norm, (batch, tokens, dim)."""
        require_images("CompactTransformer", images, self.in_channels, self.image_size)
        tokens = self.tokenizer(images)[0] + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.forward_features(images)))


def _step(narrow: int, wide: int, batch_norm: bool, **how: Any) -> nn.Sequential:
    return nn.Sequential(*convolution(narrow, wide, batch_norm=batch_norm, **how))


def _cells(side: int, halvings: int, stem: int) -> int:
    """Rows, or columns, of tokens: the stem rounds down where it halves, pooling rounds up."""
    size = side // 2 if stem else side
    for _ in range(halvings):
        size = (size + 1) // 2
    return size


def _require_sizes(image_size: int | tuple[int, int], in_channels: int, widths: Sequence[int],
                   stem: int, depth: int, num_heads: int) -> tuple[int, int]:
    """Height and width of the pictures."""
    caller = "CompactTransformer"
    sizes = require_size(caller, "image_size", image_size)
    require_range(caller, "image_size", min(sizes), 4)
    if not widths:
        raise LabError(f"{caller}: widths={widths!r} is empty; give the width of each convolution, as in (64, 128)")
    for width in widths:
        require_range(caller, "widths", width, 1)
    require_multiple(caller, "widths[-1]", widths[-1], num_heads, f"each of {num_heads} heads takes an equal share")
    require_range(caller, "depth", depth, 1)
    require_range(caller, "stem", stem, 0, 32 * in_channels)   # filters and negatives of 16 pixels
    if stem:
        require_multiple(caller, "stem", stem, 2, "filters and their negatives")
    return sizes
