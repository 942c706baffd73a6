"""Batches: which pictures a step sees, and how they are cropped, mirrored and mixed.

Everything follows from (seed, step), never from what was drawn before. Pictures are cropped and
mirrored as bytes, the whole batch in one indexing, and only then become floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..data import Pictures
from .randomness import EPOCH, STEP, generator_for

AUGMENTATIONS = ("flip", "crop", "mixup", "cutmix")


@dataclass(frozen=True)
class Batch:
    """What an objective sees of one step; where pictures are mixed, `mix` is the share of the
    picture's own label.

    `inputs` (B, 3, H, W) and `labels` (B,) lie on the training device. `index` (B,), on the CPU,
    says which pictures of the set these are. Mixed batches name the pictures mixed in: `partner`
    (B,) on the CPU and `partner_labels` (B,). `step` counts from 1; `places` (B,), on the CPU, says
    which rows of the whole batch these are: of several processes, each sees its own.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor
    partner: Tensor | None = None
    partner_labels: Tensor | None = None
    mix: float = 1.0
    step: int = 0
    places: Tensor | None = None

    def by_labels(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """`value(labels)`; where pictures are mixed, that of both labels, weighed by their shares."""
        own = value(self.labels)
        return own if self.partner_labels is None else self.mix * own + (1 - self.mix) * value(self.partner_labels)


class Batches:
    """`batches(step)` makes the batch of any step, counted from 1; of several processes, each makes
    its own slice.

    Inputs lie on `target` in `dtype`. The bytes are moved there once if they take less than a
    quarter of its memory, else batch by batch.
    """

    def __init__(self, data: Pictures, batch_size: int, seed: int, augment: tuple[str, ...],
                 target: torch.device, rank: int = 0, processes: int = 1,
                 dtype: torch.dtype = torch.float32):
        home = target if _fits(data.pixels, target) else torch.device("cpu")
        self.pixels, self.labels = data.pixels.to(home), data.labels.to(home)
        self.gain = (1 / (255 * data.std)).view(1, 3, 1, 1).to(target)
        self.shift = (data.mean / data.std).view(1, 3, 1, 1).to(target)
        self.batch_size, self.seed, self.augment, self.target = batch_size, seed, augment, target
        self.mine, self.dtype = torch.arange(batch_size).tensor_split(processes)[rank], dtype

    def __call__(self, step: int) -> Batch:
        order = batch_order(len(self.labels), self.batch_size, step, self.seed)
        generator = generator_for(self.seed, STEP, step)
        rows, columns = _draw_views(self.batch_size, *self.pixels.shape[-2:], self.augment, generator)
        kinds = [name for name in ("mixup", "cutmix") if name in self.augment]
        if not kinds:
            own = self._inputs(order, rows, columns, self.mine)
            return Batch(own, self._labels(order[self.mine]), order[self.mine], step=step, places=self.mine)
        partner = torch.randperm(self.batch_size, generator=generator)[self.mine]
        own = self._inputs(order, rows, columns, self.mine)
        whole = len(self.mine) == self.batch_size   # then every partner is already made
        other = own[partner.to(own.device)] if whole else self._inputs(order, rows, columns, partner)
        inputs, mix = _mix(own, other, kinds, generator)
        return Batch(inputs, self._labels(order[self.mine]), order[self.mine], order[partner],
                     self._labels(order[partner]), mix, step, self.mine)

    def _inputs(self, order: Tensor, rows: Tensor | None, columns: Tensor | None,
                among: Tensor) -> Tensor:
        """Inputs of the pictures at places `among` of the global batch, seen through `rows` and
        `columns`.
        """
        index = order[among].to(self.pixels.device)
        if rows is None:
            pixels = self.pixels[index]
        else:
            channels = torch.arange(self.pixels.shape[1], device=index.device).view(1, -1, 1, 1)
            pixels = self.pixels[index.view(-1, 1, 1, 1), channels, rows[among].to(index.device)[:, None, :, None],
                                 columns[among].to(index.device)[:, None, None, :]]
        return (pixels.to(self.target).float() * self.gain - self.shift).to(self.dtype)

    def _labels(self, index: Tensor) -> Tensor:
        return self.labels[index.to(self.labels.device)].to(self.target)


def batch_order(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Indices (batch_size,) of the pictures of `step`, from 1. Every epoch is a new shuffle; a
    batch may span two.
    """
    first = (step - 1) * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    order = torch.cat([_epoch_order(count, seed, epoch) for epoch in epochs])
    return order[first % count :][:batch_size]


@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, EPOCH, epoch))


def _draw_views(batch_size: int, height: int, width: int, augment: tuple[str, ...],
                generator: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
    """Which row and column of its picture each pixel shows, (B, H) and (B, W); None if all show
    their own.

    A crop shifts by up to an eighth of the size and fills by reflection: 4 pixels of 32, as is
    usual on CIFAR.
    """
    if "crop" not in augment and "flip" not in augment:
        return None, None
    rows, columns = torch.arange(height).expand(batch_size, -1), torch.arange(width).expand(batch_size, -1)
    if "crop" in augment:
        rows, columns = (_reflect(places + _draw_shift(batch_size, places.shape[1], generator), places.shape[1])
                         for places in (rows, columns))
    if "flip" in augment:
        mirrored = torch.rand(batch_size, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    return rows, columns


def _draw_shift(batch_size: int, size: int, generator: torch.Generator) -> Tensor:
    reach = size // 8
    return torch.randint(-reach, reach + 1, (batch_size, 1), generator=generator)


def _reflect(places: Tensor, size: int) -> Tensor:
    """Places beyond an edge -> those as far within it; the edge itself is not repeated."""
    places = places.abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)


def _mix(own: Tensor, other: Tensor, kinds: list[str],
         generator: torch.Generator) -> tuple[Tensor, float]:
    """Mixup (arXiv 1710.09412) or CutMix (1905.04899), one share for the batch; of both, one by
    chance.

    Shares are uniform, Beta(1, 1), as in both papers on CIFAR. CutMix returns the share of pixels
    that are really left.
    """
    chance, mix, down, right = torch.rand(4, generator=generator).tolist()
    if kinds[int(chance * len(kinds))] == "mixup":
        return torch.lerp(other, own, mix), mix
    height, width = own.shape[-2:]
    top, bottom = _cut(height, down, math.sqrt(1 - mix))
    left, end = _cut(width, right, math.sqrt(1 - mix))
    own[..., top:bottom, left:end] = other[..., top:bottom, left:end]
    return own, 1 - (bottom - top) * (end - left) / (height * width)


def _cut(size: int, centre: float, share: float) -> tuple[int, int]:
    """A stretch of `share * size` pixels around a place anywhere in the picture, clipped at its
    edges.
    """
    middle, half = int(centre * size), int(share * size) // 2
    return max(0, middle - half), min(size, middle + half)


def _fits(pixels: Tensor, target: torch.device) -> bool:
    return target.type != "cuda" or pixels.nbytes < torch.cuda.get_device_properties(target).total_memory // 4
