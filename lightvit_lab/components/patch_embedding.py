"""Images to tokens: one convolution that cuts patches, or several that overlap.

Dosovitskiy et al., arXiv 2010.11929; the stem is that of Xiao et al., Early Convolutions Help
Transformers See Better, arXiv 2106.14881.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..errors import plain_numbers
from .maps import Grid, to_tokens


def convolution(narrow: int, wide: int, kernel: int = 3, stride: int = 1, groups: int = 1,
                pool: bool = False, batch_norm: bool = True,
                activation: Callable[[], nn.Module] = nn.ReLU) -> list[nn.Module]:
    """List of layers: a convolution of padding 1, max-pooling that halves, norm, activation."""
    layer = nn.Conv2d(narrow, wide, kernel, stride, padding=1, groups=groups, bias=False)
    pooling = [nn.MaxPool2d(3, stride=2, padding=1)] if pool else []
    return [layer, *pooling, *([nn.BatchNorm2d(wide)] if batch_norm else []), activation()]


@plain_numbers
class PatchEmbedding(nn.Module):
    """Cut images into patches and map each by one linear layer.

    A convolution whose stride is its kernel does both. (batch, channels, height, width) ->
    (batch, tokens, dim) and the grid (height / patch_size, width / patch_size).
    """

    def __init__(self, patch_size: int, dim: int, in_channels: int = 3):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        return to_tokens(self.proj(images))


@plain_numbers
class ConvStem(nn.Module):
    """Overlapping 3x3 convolutions; each of stride 2 halves the map, until a token is a patch.

    Same shapes as `PatchEmbedding`; `patch_size` is a power of two. The width doubles on the way up
    to `dim`. `depth` is the number of convolutions at each of the resolutions; 1 is the stem as
    published, 2 learns faster still.
    """

    def __init__(self, patch_size: int, dim: int, in_channels: int = 3, depth: int = 1):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = [in_channels] + [dim // 2 ** (halvings - 1 - i) for i in range(halvings)]
        layers: list[nn.Module] = []
        for narrow, wide in zip(widths, widths[1:]):
            for channels, stride in [(narrow, 2)] + [(wide, 1)] * (depth - 1):
                layers += convolution(channels, wide, stride=stride)
        self.proj = nn.Sequential(*layers, nn.Conv2d(widths[-1], dim, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        return to_tokens(self.proj(images))
