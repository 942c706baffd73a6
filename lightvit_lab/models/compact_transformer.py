"""Compact transformers: convolutions make the tokens, whose weighted mean the head reads.

Hassani et al., Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704. The
defaults are ours, for training in minutes on two cores; `cct_2_3x2` gives the shape of the smallest
model of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..components import Grid, convolution, initialise_linear, to_tokens
from ..errors import (LabError, plain_numbers, require_images, require_multiple, require_range,
                      require_size)
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
    """Images (batch, channels, height, width) -> tokens (batch, tokens, widths[-1]) and their grid.

    Each of `widths` is a 3x3 convolution and a 3x3 max-pooling that halves the map; with `residual`
    one more convolution is added to the pooled map. A `stem` width puts a 4x4 convolution of stride
    2 in front: it halves the map before the first expensive convolution. Pooling comes before the
    ReLU: the two commute, and a quarter is left to normalise and to cut off.
    """

    def __init__(self, widths: Sequence[int], in_channels: int = 3, stem: int = 0,
                 residual: bool = False, batch_norm: bool = True):
        super().__init__()
        self.stem, self.halvings = stem, len(widths)
        layers = [_step(in_channels, stem, batch_norm, kernel=4, stride=2)] if stem else []
        for narrow, wide in zip([stem or in_channels, *widths], widths):
            layers.append(_step(narrow, wide, batch_norm, pool=True))
            if residual:
                layers.append(Residual(_step(wide, wide, batch_norm)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        return to_tokens(self.layers(images))


class SequencePool(nn.Module):
    """Mean of the tokens with learned weights: (batch, tokens, dim) -> (batch, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def shares(self, tokens: Tensor) -> Tensor:
        """Share of each token in the mean, (batch, tokens, 1); those of an image sum to 1."""
        return self.score(tokens).softmax(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.shares(tokens).transpose(1, 2) @ tokens).squeeze(1)


@plain_numbers
class CompactTransformer(nn.Module):
    """A compact transformer: images (batch, in_channels, height, width), normalised -> logits.

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
        height, width = _require_sizes(image_size, widths, stem, depth, num_heads)
        self.image_size = (height, width) if isinstance(image_size, (list, tuple)) else height
        self.in_channels, self.num_classes = in_channels, num_classes
        self.dim = dim = widths[-1]
        self.tokenizer = Tokenizer(widths, in_channels, stem, residual, batch_norm)
        self.num_image_tokens = math.prod(self.grids(height, width)[0])
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_image_tokens, dim))
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, fused, qkv_bias) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pool = SequencePool(dim)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of std 0.02 for linear layers, He's for convolutions, as in the paper's code."""
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
        return [(self._cells(height), self._cells(width))]

    def _cells(self, side: int) -> int:
        """Rows, or columns, of tokens: the stem rounds down where it halves, pooling rounds up."""
        size = side // 2 if self.tokenizer.stem else side
        for _ in range(self.tokenizer.halvings):
            size = (size + 1) // 2
        return size

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


def _require_sizes(image_size: int | tuple[int, int], widths: Sequence[int], stem: int, depth: int,
                   num_heads: int) -> tuple[int, int]:
    """Height and width of the pictures."""
    caller = "CompactTransformer"
    sizes = require_size(caller, "image_size", image_size)
    if not widths:
        raise LabError(f"{caller}: widths={widths!r} is empty; give the width of each convolution, "
                       "as in (64, 128)")
    for name, value, low in [("image_size", min(sizes), 4), ("widths", min(widths), 1),
                             ("depth", depth, 1), ("num_heads", num_heads, 1), ("stem", stem, 0)]:
        require_range(caller, name, value, low)
    why = f"each of {num_heads} heads takes an equal share"
    require_multiple(caller, "widths[-1]", widths[-1], num_heads, why)
    return sizes
