"""The lab's Vision Transformer, as `chapters/foundations/vision_transformer` derives it.

Names of parameters follow timm's `VisionTransformer`, so with `embedding="patch"` the weights of either load into the
other. Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929; the convolutional stem is that of Xiao et
al., Early Convolutions Help Transformers See Better, arXiv 2106.14881.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import plain_numbers, require_choice, require_images, require_multiple, require_range, require_size
from ..runtime.full_precision import full_precision


@plain_numbers
class PatchEmbedding(nn.Module):
    """Cut images into patches and map each by one linear layer; a convolution whose stride is its kernel does both.

    (batch, channels, height, width) -> (batch, tokens, dim), tokens = (height / patch_size) * (width / patch_size).
    """

    def __init__(self, patch_size: int, dim: int, in_channels: int = 3):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, N, D)


@plain_numbers
class ConvStem(nn.Module):
    """Overlapping 3x3 convolutions: one of stride 2 for every halving until a token covers `patch_size` pixels.

    Same shapes as `PatchEmbedding`; `patch_size` is a power of two. The width doubles on the way up to `dim`. `depth` is
    the number of convolutions at each of the resolutions; 1 is the stem as published, 2 learns faster still.
    """

    def __init__(self, patch_size: int, dim: int, in_channels: int = 3, depth: int = 1):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = [in_channels] + [dim // 2 ** (halvings - 1 - i) for i in range(halvings)]
        layers: list[nn.Module] = []
        for narrow, wide in zip(widths, widths[1:]):
            for channels, stride in [(narrow, 2)] + [(wide, 1)] * (depth - 1):
                layers += [nn.Conv2d(channels, wide, 3, stride, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(widths[-1], dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, N, D)


@plain_numbers
class Attention(nn.Module):
    """Multi-head self-attention: each token becomes a weighted mean of the values of all tokens.

    (batch, tokens, dim) -> (batch, tokens, dim). With `fused=True` (the default) torch's fused kernel is used and the
    (batch, heads, tokens, tokens) weights never exist in memory; `weights` computes them for whoever wants to look.
    """

    def __init__(self, dim: int, num_heads: int, fused: bool = True, qkv_bias: bool = True):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.scale = self.head_dim**-0.5
        self.fused = fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def split_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, tokens, head_dim)."""
        batch, num_tokens, _ = tokens.shape
        qkv = self.qkv(tokens).view(batch, num_tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    @full_precision
    def weights(self, tokens: Tensor) -> Tensor:
        """The attention weights, (batch, heads, tokens, tokens); rows sum to 1: row i says where token i looks.

        In float32, as the fused kernel computes its softmax, whatever the type of the tokens, also under autocast.
        """
        query, key, _ = self.split_heads(tokens)
        return (query.float() @ key.float().transpose(-2, -1) * self.scale).softmax(dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.split_heads(tokens)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        else:
            mixed = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1) @ value
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, D)


@plain_numbers
class Mlp(nn.Module):
    """Two linear layers with a GELU between, applied to every token alone; (batch, tokens, dim) in and out."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))


@plain_numbers
class Block(nn.Module):
    """Attention mixes tokens, the MLP works on each; both see normalised tokens and add to what came in (pre-norm)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, fused: bool = True, qkv_bias: bool = True):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, fused, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


@plain_numbers
class VisionTransformer(nn.Module):
    """Images (batch, in_channels, height, width), normalised -> logits (batch, num_classes).

    `image_size` is the height and width of all pictures, one number for both or (height, width).
    `embedding` is "conv_stem" (learns fast from little; `stem_depth` convolutions a resolution) or
    "patch" (the original). `position=False` leaves the position embedding out, for the page that
    shows what then fails. `distilled=True` adds DeiT's distillation token, second in front, with a
    head of its own (arXiv 2012.12877): logits are the mean of both heads, and in train mode, after
    `set_distilled_training(True)`, a pair. Raises LabError on sizes that do not divide.
    """

    def __init__(self, image_size: int | tuple[int, int] = 32, patch_size: int = 4, in_channels: int = 3,
                 num_classes: int = 10, dim: int = 128, depth: int = 6, num_heads: int = 4, mlp_ratio: float = 4.0,
                 embedding: str = "conv_stem", stem_depth: int = 1, position: bool = True, fused: bool = True,
                 distilled: bool = False):
        super().__init__()
        require_range("VisionTransformer", "stem_depth", stem_depth, 1)
        height, width = _require_sizes(image_size, patch_size, dim, num_heads, depth, embedding)
        self.image_size = (height, width) if isinstance(image_size, (list, tuple)) else height
        self.patch_size, self.in_channels = patch_size, in_channels
        self.num_classes, self.dim = num_classes, dim
        self.num_image_tokens = math.prod(self.grids(height, width)[0])
        self.num_prefix_tokens, self.distilled_training = 1 + distilled, False
        self.patch_embed = (PatchEmbedding(patch_size, dim, in_channels) if embedding == "patch"
                            else ConvStem(patch_size, dim, in_channels, stem_depth))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim)) if distilled else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_prefix_tokens + self.num_image_tokens, dim),
                                      requires_grad=position)
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, fused) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        self.head_dist = nn.Linear(dim, num_classes) if distilled else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original does: truncated normal of std 0.02 for linear layers and the position table."""
        self.apply(initialise_linear)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.dist_token is not None:
            nn.init.trunc_normal_(self.dist_token, std=0.02)
        if self.pos_embed.requires_grad:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The learned tables, which no optimizer shall treat as matrices."""
        return {"cls_token", "dist_token", "pos_embed"}

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """The one grid, (rows, columns), that the image tokens of a picture of this size form."""
        return [(height // self.patch_size, width // self.patch_size)]

    def embed(self, images: Tensor) -> Tensor:
        """Images -> class token and image tokens with their positions added, (batch, 1 + tokens, dim)."""
        tokens = self.patch_embed(images)
        prefix = self.cls_token if self.dist_token is None else torch.cat([self.cls_token, self.dist_token], dim=1)
        return torch.cat([prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last block and the final norm, (batch, 1 + tokens, dim); the class token comes first."""
        require_images("VisionTransformer", images, self.in_channels, self.image_size)
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def set_distilled_training(self, enable: bool = True) -> None:
        """Return the logits of both heads from now on, where the model has two and is in train mode."""
        self.distilled_training = enable

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.forward_head(self.forward_features(images))

    def forward_head(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What `forward_features` returns -> logits (batch, num_classes), or a pair of them as said above."""
        logits = self.head(tokens[:, 0])
        if self.head_dist is None:
            return logits
        other = self.head_dist(tokens[:, 1])
        return (logits, other) if self.distilled_training and self.training else (logits + other) / 2


def initialise_linear(module: nn.Module) -> None:
    """Truncated normal of std 0.02 and no bias, where `module` is a linear layer: a function for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _require_sizes(image_size: int | tuple[int, int], patch_size: int, dim: int, num_heads: int, depth: int,
                   embedding: str) -> tuple[int, int]:
    """Height and width of the pictures."""
    caller = "VisionTransformer"
    require_range(caller, "patch_size", patch_size, 1)
    require_choice(caller, "embedding", embedding, ["conv_stem", "patch"])
    require_multiple(caller, "dim", dim, num_heads, f"each of {num_heads} heads takes an equal share")
    require_range(caller, "depth", depth, 1)
    if embedding == "conv_stem":
        require_choice(caller, "patch_size", patch_size, [2, 4, 8, 16, 32])
    return require_size(caller, "image_size", image_size, patch_size, f"patches are {patch_size} x {patch_size}")
