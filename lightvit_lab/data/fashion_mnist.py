"""Fashion-MNIST: pictures of clothes, 28 x 28 grey pixels, 60,000 to train and 10,000 to test.

Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence. Read from its four IDX files, gzipped or
not.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..runtime import cache
from ..storage import refused
from .decoded import Parts, Source
from .download import Remote, fetch
from .places import find as find_place

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
               "Bag", "Ankle boot")
LARGEST = 2**26     # bytes of a file that are read, unpacked; the largest has 47 million
_FOLDERS = ("fashion_mnist", "FashionMNIST/raw")   # the layout of LIGHTVIT_DATA, and torchvision's
_MIRRORS = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")
FILES = {     # sha256 of the unzipped content, bytes of the zipped file
    "train-images": ("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 26421880),
    "train-labels": ("bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 29515),
    "t10k-images": ("5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 4422102),
    "t10k-labels": ("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 5148),
}


def find() -> Source:
    """Where its four files lie, downloaded if they lie nowhere. Raises LabError if that fails."""
    files = tuple(_find_file(name) for name in FILES)
    return Source("fashion_mnist", files, partial(_read, files))


def _find_file(name: str) -> Path:
    stem = f"{name}-idx{_dimensions(name)}-ubyte"
    paths = [f"{folder}/{stem}{suffix}" for folder in _FOLDERS for suffix in ("", ".gz")]
    urls = tuple(f"{mirror}{stem}.gz" for mirror in _MIRRORS)
    remote = Remote(f"{stem}.gz", urls, *FILES[name], unzipped=True)
    return find_place(*paths) or fetch(remote, cache() / "fashion_mnist")


def _dimensions(name: str) -> int:
    return 3 if "images" in name else 1


def _read(files: Sequence[Path]) -> Parts:
    pixels, labels, test_pixels, test_labels = map(_idx, files)
    return Parts(pixels.unsqueeze(1), labels.long(), test_pixels.unsqueeze(1), test_labels.long(),
                 CLASS_NAMES, "Fashion-MNIST")


def _idx(path: Path) -> Tensor:
    """Read one IDX file: a magic number that ends in the number of dimensions, sizes, bytes."""
    dimensions = _dimensions(path.name)
    header = 4 + 4 * dimensions
    with refused(f"data.load: {path} is no whole IDX file", "delete it and put a fresh copy there"):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST)        # a few kilobytes can unpack to gigabytes
        shape = [int.from_bytes(raw[place : place + 4], "big") for place in range(4, header, 4)]
        if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) - header != math.prod(shape):
            raise ValueError(f"its bytes are not those of {dimensions} dimensions {shape}")
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(shape)
