"""Fashion-MNIST: photographs of clothes, 28 x 28 grey pixels, 60,000 to train and 10,000 to test.

Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence. Read from its four IDX files, gzipped or
not.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..errors import LabError
from ..runtime import cache
from .decoded import Parts, Source
from .download import Remote, fetch
from .places import find as find_place

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LARGEST = 2**26     # bytes of a file that are read, unpacked; the largest has 47 million
_FOLDERS = ("fashion_mnist", "FashionMNIST/raw")   # the layout of LIGHTVIT_DATA, and torchvision's
_MIRRORS = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")


def _remote(stem: str, sha256: str, size: int) -> Remote:
    name = f"{stem}.gz"
    return Remote(name, tuple(mirror + name for mirror in _MIRRORS), sha256, size, unzipped=True)


FILES = {
    "train-images-idx3-ubyte": ("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 26_421_880),
    "train-labels-idx1-ubyte": ("bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 29_515),
    "t10k-images-idx3-ubyte": ("5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 4_422_102),
    "t10k-labels-idx1-ubyte": ("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 5_148),
}


def find() -> Source:
    """Where its four files lie; those that lie nowhere are downloaded. Raises LabError if that
    fails.
    """
    files = tuple(_find_file(stem) for stem in FILES)
    return Source("fashion_mnist", files, partial(_read, files))


def _find_file(stem: str) -> Path:
    names = [f"{folder}/{stem}{suffix}" for folder in _FOLDERS for suffix in ("", ".gz")]
    return find_place(*names) or fetch(_remote(stem, *FILES[stem]), cache() / "fashion_mnist")


def _read(files: Sequence[Path]) -> Parts:
    train_pixels, train_labels, test_pixels, test_labels = (_idx(file, dims) for file, dims in zip(files, (3, 1, 3, 1)))
    return Parts(train_pixels.unsqueeze(1), train_labels.long(), test_pixels.unsqueeze(1), test_labels.long(),
                 CLASS_NAMES, "Fashion-MNIST")


def _idx(path: Path, dimensions: int) -> Tensor:
    """Read one IDX file of bytes: a magic number whose last byte is the number of dimensions, the
    sizes, the bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST)        # a few kilobytes can unpack to gigabytes
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(path) from error
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    header = 4 + 4 * dimensions
    if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) - header != math.prod(shape):
        raise _broken(path)
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(shape)


def _broken(path: Path) -> LabError:
    return LabError(f"data.load: {path} is no whole IDX file of bytes; delete it and put a fresh copy there")
