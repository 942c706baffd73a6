"""A small residual network, the lab's convolutional rival and teacher.

He et al., arXiv 1512.03385, the form for CIFAR. `chapters/foundations/vision_transformer` compares
it with the ViT, to show what convolution knows already.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..components import convolution
from ..errors import plain_numbers, require_images, require_range


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input.

    (batch, c, h, w) -> (batch, c', h / stride, w / stride). `pooled`: the first convolution works
    at every place, and the largest of each square of `stride` pixels is taken, without a stride.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, pooled: bool = False):
        super().__init__()
        self.pool = nn.MaxPool2d(stride) if pooled and stride != 1 else nn.Identity()
        step = 1 if pooled else stride
        self.conv1 = nn.Conv2d(in_channels, channels, 3, step, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, step, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.pool(self.conv1(maps))))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(self.pool(maps)))


@plain_numbers
class ResidualNetwork(nn.Module):
    """A residual CNN: images (batch, in_channels, height, width), normalised -> logits.

    Any size from 8 px. A 3x3 stem, then one stage per width with `blocks` residual blocks each;
    every stage but the first halves the map. `pooled` (the quick trainers' form: arXiv 2404.00498)
    halves it in every stage, by the maximum, after a stem of half the first width: more of the work
    on fine maps.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), blocks: int = 2,
                 in_channels: int = 3, num_classes: int = 10, stem_stride: int = 1,
                 pooled: bool = False):
        super().__init__()
        require_range("ResidualNetwork", "blocks", blocks, 1)
        self.in_channels, self.num_classes = in_channels, num_classes
        channels = widths[0] // 2 if pooled else widths[0]
        self.stem = nn.Sequential(*convolution(in_channels, channels, stride=stem_stride))
        self.stages = nn.Sequential()
        for index, width in enumerate(widths):
            for position in range(blocks):
                stride = 2 if position == 0 and (index > 0 or pooled) else 1
                self.stages.append(ResidualBlock(channels, width, stride, pooled))
                channels = width
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        require_images("ResidualNetwork", images, self.in_channels)
        return self.head(self.stages(self.stem(images)).mean(dim=(2, 3)))
