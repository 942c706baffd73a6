"""Batches: which pictures a step takes, and how they are cropped, mirrored and mixed.

Everything follows from (seed, step), never from what was drawn before. Pictures are cropped and
mirrored as bytes, the whole batch in one indexing, and only then become floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..data import Pictures
from ..errors import require_choice
from .randomness import EPOCH, STEP, generator_for

AUGMENTATIONS = ("flip", "crop", "mixup", "cutmix")


def require_augment(caller: str, augment: str | Sequence[str]) -> tuple[str, ...]:
    """Names of augmentations, also a single one, as a tuple; LabError on unknown ones."""
    names = (augment,) if isinstance(augment, str) else tuple(augment)
    for name in names:
        require_choice(caller, "augment", name, AUGMENTATIONS)
    return names


@dataclass(frozen=True)
class Batch:
    """The pictures of one step; where they are mixed, `mix` is the share of the own label.

    `inputs` (B, 3, H, W) and `labels` (B,) are on the training device, `index` (B,), on the CPU,
    has the numbers of these pictures in the set. Mixed batches name the pictures mixed in:
    `partner` (B,) on the CPU and `partner_labels` (B,). `step` counts from 1; `places` (B,), on the
    CPU, are the rows of the whole batch: of several processes, each has its own.
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
        """`value(labels)`; of mixed pictures, that of both labels, weighted by their shares."""
        own = value(self.labels)
        if self.partner_labels is None:
            return own
        return self.mix * own + (1 - self.mix) * value(self.partner_labels)


class Batches:
    """`batches(step)` makes the batch of any step, from 1; each of several processes its slice.

    Inputs are on `target` in `dtype`. The bytes are moved there once if they take less than a
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
        views = _draw_views(self.batch_size, *self.pixels.shape[-2:], self.augment, generator)
        kinds = [name for name in ("mixup", "cutmix") if name in self.augment]
        index, inputs = order[self.mine], self._inputs(order, *views, self.mine)
        if not kinds:
            return Batch(inputs, self._labels(index), index, step=step, places=self.mine)
        partner = torch.randperm(self.batch_size, generator=generator)[self.mine]
        whole = len(self.mine) == self.batch_size   # then every partner is already made
        other = inputs[partner.to(inputs.device)] if whole else self._inputs(order, *views, partner)
        inputs, mix = _mix(inputs, other, kinds, generator)
        return Batch(inputs, self._labels(index), index, order[partner],
                     self._labels(order[partner]), mix, step, self.mine)

    def _inputs(self, order: Tensor, rows: Tensor | None, columns: Tensor | None,
                places: Tensor) -> Tensor:
        """Inputs of the pictures at `places` of the whole batch, cropped to `rows`, `columns`."""
        index = order[places].to(self.pixels.device)
        if rows is None:
            pixels = self.pixels[index]
        else:
            channels = torch.arange(self.pixels.shape[1], device=index.device).view(1, -1, 1, 1)
            rows, columns = (sides[places].to(index.device) for sides in (rows, columns))
            pixels = self.pixels[index.view(-1, 1, 1, 1), channels, rows[:, None, :, None],
                                 columns[:, None, None, :]]
        return (pixels.to(self.target).float() * self.gain - self.shift).to(self.dtype)

    def _labels(self, index: Tensor) -> Tensor:
        return self.labels[index.to(self.labels.device)].to(self.target)


def batch_order(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Indices (batch_size,) of the pictures of `step`, from 1.

    Every epoch is a new shuffle; a batch may span two.
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
    """Row and column of the picture for each pixel, (B, H) and (B, W); None for its own."""
    if "crop" not in augment and "flip" not in augment:
        return None, None
    rows, columns = (torch.arange(size).expand(batch_size, -1) for size in (height, width))
    if "crop" in augment:
        rows, columns = _crop(rows, generator), _crop(columns, generator)
    if "flip" in augment:
        mirrored = torch.rand(batch_size, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    return rows, columns


def _crop(places: Tensor, generator: torch.Generator) -> Tensor:
    """Places (B, size) shifted by up to an eighth of the size: 4 pixels of 32, usual on CIFAR.

    Those beyond an edge are reflected; the edge itself is not repeated.
    """
    count, size = places.shape
    shift = torch.randint(-(size // 8), size // 8 + 1, (count, 1), generator=generator)
    places = (places + shift).abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)


def _mix(own: Tensor, other: Tensor, kinds: list[str],
         generator: torch.Generator) -> tuple[Tensor, float]:
    """Mixup (arXiv 1710.09412) or CutMix (arXiv 1905.04899) with one share for the batch.

    Of both, one by chance. Shares are uniform, Beta(1, 1), as in both papers on CIFAR; that of
    CutMix is the share of pixels that are not replaced, after clipping.
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
    """Begin and end of `share * size` pixels around a place in the picture, clipped at edges."""
    middle, half = int(centre * size), int(share * size) // 2
    return max(0, middle - half), min(size, middle + half)


def _fits(pixels: Tensor, target: torch.device) -> bool:
    if target.type != "cuda":
        return True
    return pixels.nbytes < torch.cuda.get_device_properties(target).total_memory // 4
