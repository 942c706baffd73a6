"""The lab's Vision Transformer, as `chapters/foundations/vision_transformer` derives it.

Names of parameters follow timm's `VisionTransformer`, so with `embedding="patch"` the weights of
either load into the other. Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929; the
convolutional stem is that of Xiao et al., Early Convolutions Help Transformers See Better, arXiv
2106.14881.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..components import (Attention, ConvStem, Mlp, PatchEmbedding, Pooling, PreNormBlock,
                          WindowAttention, initialise_linear)
from ..errors import (LabError, plain_numbers, require_choice, require_images, require_multiple,
                      require_range, require_size)

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "attention": Attention, "window": WindowAttention,
    "pooling": lambda dim, num_heads, fused, qkv_bias, **options: Pooling(**options),
}


@plain_numbers
class Block(PreNormBlock):
    """A mixer of tokens, by default attention, and an MLP, each on normalised tokens (pre-norm)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, fused: bool = True,
                 qkv_bias: bool = True, mixer: str = "attention", **options: Any):
        mixing = MIXERS[mixer](dim, num_heads, fused=fused, qkv_bias=qkv_bias, **options)
        super().__init__(dim, mixing, Mlp(dim, int(dim * mlp_ratio)))


@plain_numbers
class VisionTransformer(nn.Module):
    """A Vision Transformer: images (batch, in_channels, height, width), normalised -> logits.

    `image_size` is the height and width of all pictures, one number for both or (height, width).
    `embedding` is "conv_stem" (learns fast from little; `stem_depth` convolutions a resolution) or
    "patch" (the original). `position` is "table" or "none" (True or False), for the page that shows
    what then fails. `mixer` is "attention", "window" or "pooling", with `mixer_options` such as
    {"window_size": (2, 4)}. `pool` says what the head reads: "class", a token in front, or "mean",
    of all image tokens; mixers that work on a map need "mean". `distilled=True` adds DeiT's
    distillation token, second in front, with a head of its own (arXiv 2012.12877): logits are the
    mean of both heads, and in train mode, after `set_distilled_training(True)`, a pair. Raises
    LabError on sizes that do not divide.
    """

    def __init__(self, image_size: int | tuple[int, int] = 32, patch_size: int = 4,
                 in_channels: int = 3, num_classes: int = 10, dim: int = 128, depth: int = 6,
                 num_heads: int = 4, mlp_ratio: float = 4.0, embedding: str = "conv_stem",
                 stem_depth: int = 1, position: bool | str = True, fused: bool = True,
                 distilled: bool = False, mixer: str = "attention",
                 mixer_options: dict[str, Any] | None = None, pool: str = "class"):
        super().__init__()
        for name, value in [("stem_depth", stem_depth), ("patch_size", patch_size),
                            ("num_heads", num_heads), ("depth", depth)]:
            require_range("VisionTransformer", name, value, 1)
        _require_parts(embedding, patch_size, position, mixer, pool, distilled)
        why = f"each of {num_heads} heads takes an equal share"
        require_multiple("VisionTransformer", "dim", dim, num_heads, why)
        why = f"patches are {patch_size} x {patch_size}"
        height, width = require_size("VisionTransformer", "image_size", image_size, patch_size, why)
        self.image_size = (height, width) if isinstance(image_size, (list, tuple)) else height
        self.patch_size, self.in_channels = patch_size, in_channels
        self.num_classes, self.dim, self.mixer = num_classes, dim, mixer
        self.num_image_tokens = math.prod(self.grids(height, width)[0])
        self.num_prefix_tokens = (pool == "class") + distilled
        self.distilled_training = False
        self.patch_embed = (PatchEmbedding(patch_size, dim, in_channels) if embedding == "patch"
                            else ConvStem(patch_size, dim, in_channels, stem_depth))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if pool == "class" else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim)) if distilled else None
        table = torch.zeros(1, self.num_prefix_tokens + self.num_image_tokens, dim)
        self.pos_embed = nn.Parameter(table, requires_grad=position in (True, "table"))
        how = {"fused": fused, "mixer": mixer, **(mixer_options or {})}
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, **how) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        self.head_dist = nn.Linear(dim, num_classes) if distilled else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of std 0.02 for linear layers and tables, as in the original."""
        self.apply(initialise_linear)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        for table in (self.dist_token, self.pos_embed):
            if table is not None and table.requires_grad:
                nn.init.trunc_normal_(table, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The learned tables, which no optimizer shall treat as matrices."""
        return {"cls_token", "dist_token", "pos_embed"}

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """The one grid, (rows, columns), that the image tokens of a picture of this size form."""
        return [(height // self.patch_size, width // self.patch_size)]

    def embed(self, images: Tensor) -> Tensor:
        """Images -> tokens in front, then image tokens, with positions: (batch, tokens, dim)."""
        tokens, _ = self.patch_embed(images)
        front = [token for token in (self.cls_token, self.dist_token) if token is not None]
        front = [token.expand(tokens.shape[0], -1, -1) for token in front]
        return torch.cat([*front, tokens], dim=1) + self.pos_embed

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last block and the final norm, (batch, prefix + tokens, dim)."""
        require_images("VisionTransformer", images, self.in_channels, self.image_size)
        tokens = self.embed(images)
        grid = () if self.mixer == "attention" else self.grids(*images.shape[2:])
        for block in self.blocks:
            tokens = block(tokens, *grid)
        return self.norm(tokens)

    def set_distilled_training(self, enable: bool = True) -> None:
        """Return the logits of both heads from now on, if the model has two, in train mode."""
        self.distilled_training = enable

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.forward_head(self.forward_features(images))

    def forward_head(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens of `forward_features` -> logits (batch, num_classes), or those of both heads."""
        logits = self.head(tokens.mean(dim=1) if self.cls_token is None else tokens[:, 0])
        if self.head_dist is None:
            return logits
        other = self.head_dist(tokens[:, 1])
        if self.distilled_training and self.training:
            return logits, other
        return (logits + other) / 2


def _require_parts(embedding: str, patch_size: int, position: bool | str, mixer: str, pool: str,
                   distilled: bool) -> None:
    caller = "VisionTransformer"
    require_choice(caller, "embedding", embedding, ["conv_stem", "patch"])
    if embedding == "conv_stem":
        require_choice(caller, "patch_size", patch_size, [2, 4, 8, 16, 32])
    if not isinstance(position, bool):
        require_choice(caller, "position", position, ["table", "none"])
    require_choice(caller, "mixer", mixer, MIXERS)
    require_choice(caller, "pool", pool, ["class", "mean"])
    if pool == "class" and mixer != "attention":
        raise LabError(f"{caller}: mixer={mixer!r} works on a map of tokens, where a class token "
                       'has no place; give pool="mean"')
    if pool == "mean" and distilled:
        raise LabError(f'{caller}: distilled=True needs the class token too; give pool="class"')
