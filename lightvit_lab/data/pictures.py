"""`Pictures`: one split of a set, as bytes; models' inputs and images are made on demand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import plain_numbers
from .on_demand import OnDemand


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split. `pixels` (N, 1 or 3, H, W) are bytes.

    `images` and `inputs` are made from them on demand: `inputs[:8]` makes eight pictures,
    `model(inputs)` all. `mean` and `std` (3,) are those of the set's training pictures; `title` is
    the set's name for tables and figures.
    """

    name: str
    split: str
    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    masks: Tensor | None = None
    title: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """For drawing: (N, 3, H, W) in [0, 1]."""
        return OnDemand(self.pixels, lambda pixels: (pixels.float() / 255).expand(-1, 3, -1, -1))

    @property
    def inputs(self) -> Tensor:
        """For models: (images - mean) / std, (N, 3, H, W)."""
        return OnDemand(self.pixels, lambda pixels: self._scale(pixels, 255))

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 1], (N, 3, H, W) -> what models take, by this set's `mean` and `std`."""
        return self._scale(images, 1)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, 3, H, W) and labels (B,) of the pictures at `index` (B,)."""
        return self._scale(self.pixels.index_select(0, index), 255), self.labels[index]

    def _scale(self, values: Tensor, top: int) -> Tensor:
        """(values / top - mean) / std as floats (N, 3, H, W), of bytes and grey pictures too."""
        gain, shift = (part.view(1, 3, 1, 1).to(values.device)
                       for part in (1 / (top * self.std), self.mean / self.std))
        return values.mul(gain).sub_(shift)


@plain_numbers
def resize(pixels: Tensor, size: int) -> Tensor:
    """Bytes (N, C, h, w) -> bytes (N, C, size, size), bilinear with antialiasing."""
    if pixels.shape[-2:] == (size, size):
        return pixels.contiguous()
    # a few at a time, so that their floats stay in the processor's cache
    few = max(1, 2**20 // pixels[0].numel())
    floats = (F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
              for part in pixels.split(few))
    return torch.cat([part.round_().clamp_(0, 255).byte() for part in floats])
