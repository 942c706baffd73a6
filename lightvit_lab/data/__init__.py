"""Pictures to train on and to look at: `load(name, split)` gives one `Pictures`, the same shape whatever the set.

Found in order: the folder that `LIGHTVIT_DATA` names, then the user's cache. `digits` comes with scikit-learn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import LabError, require_choice, require_range
from . import digits, fashion_mnist

SPLITS = ("train", "val", "test")
_SOURCES: dict[str, Callable[[Path | None], "tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]"]] = {
    "digits": digits.read,
    "fashion_mnist": fashion_mnist.read,
}


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split. `pixels` (N, 1 or 3, H, W) are bytes; `images` and `inputs` are made from them on demand."""

    name: str
    split: str
    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """For drawing: (N, 3, H, W) in [0, 1]."""
        return _to_images(self.pixels)

    @property
    def inputs(self) -> Tensor:
        """For models: (images - mean) / std, (N, 3, H, W)."""
        return self.normalize(self.images)

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 1], (N, 3, H, W) -> what models take, by the mean and std of this set's training pictures."""
        return (images - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, 3, H, W) and labels (B,) of the pictures at `index`; large sets are never held as floats whole."""
        return self.normalize(_to_images(self.pixels[index])), self.labels[index]


def names() -> tuple[str, ...]:
    """The sets that `load` knows."""
    return tuple(_SOURCES)


def chosen(default: str = "digits") -> str:
    """The set that a page trains on: `LIGHTVIT_DATASET` if it is set, else `default`. Raises LabError on unknown names."""
    name = os.environ.get("LIGHTVIT_DATASET") or default
    require_choice("data.chosen (LIGHTVIT_DATASET)", "name", name, names())
    return name


def root() -> Path | None:
    """The folder `LIGHTVIT_DATA` names, absolute; None where it is not set. Raises LabError if it does not exist."""
    folder = os.environ.get("LIGHTVIT_DATA")
    if not folder:
        return None
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise LabError(f"LIGHTVIT_DATA={folder} is no folder (resolved: {path}); point it at the folder that holds the "
                       'data sets, or unset it and use data.load("digits"), which needs no download')
    return path


def cache() -> Path:
    """The user's cache of data sets: `LIGHTVIT_CACHE`, else `~/.cache/lightvit_lab`."""
    return Path(os.environ.get("LIGHTVIT_CACHE") or Path.home() / ".cache" / "lightvit_lab")


def load(name: str, split: str = "train", image_size: int = 32, count: int | None = None, seed: int = 0) -> Pictures:
    """Load one split of a set as pictures of `image_size` x `image_size` pixels, shuffled by `seed`.

    `val` is a tenth of the training pictures, carved out with a fixed seed; nothing is chosen on `test`. `count`
    keeps the first so many, None all. Raises LabError on unknown names, on a count that is too large, and where the
    files are missing (it says where they were looked for).
    """
    require_choice("data.load", "name", name, names())
    require_choice("data.load", "split", split, SPLITS)
    require_range("data.load", "image_size", image_size, 4, 1024)
    pixels, labels, class_names, mean, std = _split(name, split, root())
    if count is not None:
        require_range("data.load", "count", count, 1, len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]
    return Pictures(name, split, _resize(pixels[order], image_size), labels[order], class_names, mean, std)


@lru_cache(maxsize=8)
def _split(name: str, split: str, folder: Path | None) -> tuple[Tensor, Tensor, tuple[str, ...], Tensor, Tensor]:
    train_pixels, train_labels, test_pixels, test_labels, class_names = _SOURCES[name](folder)
    order = torch.randperm(len(train_labels), generator=torch.Generator().manual_seed(2505))
    val, train = order.tensor_split([len(order) // 10])
    mean, std = _moments(train_pixels[train])
    if split == "test":
        return test_pixels, test_labels, class_names, mean, std
    index = train if split == "train" else val
    return train_pixels[index], train_labels[index], class_names, mean, std


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of bytes (N, C, H, W), as fractions of 255, each (3,)."""
    channels = pixels.transpose(0, 1).flatten(1).double() / 255
    return channels.mean(1).float().expand(3), channels.std(1).float().expand(3)


def _to_images(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255).expand(-1, 3, -1, -1)


def _resize(pixels: Tensor, size: int) -> Tensor:
    """Bytes (N, C, h, w) -> bytes (N, C, size, size), bilinear with antialiasing, in chunks so that memory stays small."""
    if pixels.shape[-2:] == (size, size):
        return pixels.contiguous()
    chunks = [F.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
              .round().clamp(0, 255).byte() for chunk in pixels.split(4096)]
    return torch.cat(chunks)
