"""Fashion-MNIST: photographs of clothes, 28 x 28 grey pixels, 60,000 to train and 10,000 to test.

Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence. Read from its four IDX files, gzipped or not.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ..errors import LabError

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_FOLDERS = ("fashion_mnist", "FashionMNIST/raw")   # the layout of LIGHTVIT_DATA, and torchvision's


def read(folder: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Train pixels (N, 1, 28, 28) and labels, test pixels and labels, class names. Raises LabError if files are missing."""
    files = _find(folder)
    parts = [_idx(files[stem]) for stem in _STEMS]
    train_pixels, train_labels, test_pixels, test_labels = parts
    return (train_pixels.unsqueeze(1), train_labels.long(), test_pixels.unsqueeze(1), test_labels.long(), CLASS_NAMES)


_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _find(folder: Path | None) -> dict[str, Path]:
    from . import cache

    places = [base / name for base in (folder, cache()) if base for name in _FOLDERS]
    for place in places:
        found = {stem: path for stem in _STEMS for path in (place / stem, place / f"{stem}.gz") if path.is_file()}
        if len(found) == len(_STEMS):
            return found
    looked = ", ".join(str(place) for place in places)
    raise LabError(f'data.load("fashion_mnist"): its four files {", ".join(_STEMS)} (.gz or not) were looked for in '
                   f"{looked}; put them there, or set LIGHTVIT_DATA to the folder that holds fashion_mnist/. "
                   'data.load("digits") needs no download')


def _idx(path: Path) -> Tensor:
    """Read one IDX file of bytes: a magic number whose last byte is the number of dimensions, the sizes, the bytes."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = raw[3] if len(raw) > 4 else 0
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    header = 4 + 4 * dimensions
    if raw[:3] != b"\x00\x00\x08" or not shape or len(raw) - header != int(numpy.prod(shape)):
        raise LabError(f"data.load: {path} is no whole IDX file of bytes; delete it and put a fresh copy there")
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(shape)
