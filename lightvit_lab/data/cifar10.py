"""CIFAR-10: 32 x 32 pixel photographs of ten kinds of things, 50,000 to train and 10,000 to test.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; no licence is stated. Read
from torchvision's batches, from the official binary archive, or from a copy as JPEG files (lossy)
in two npz files.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from .. import storage
from ..runtime import cache
from .decoded import Parts, Source
from .download import Remote, fetch, verify
from .images import decode
from .places import find as find_place

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
               "truck")
ARCHIVE = Remote(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
     "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz"),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", size=170_052_171,
    room=60_000 * 3 * 32**2)
LARGEST = 2**28    # bytes of one array or pickle, unpacked; all training pixels are 2**27.2
_PLACES = ("cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10/cifar-10-binary.tar.gz",
           "cifar-10-binary.tar.gz", "cifar10_jpeg")
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_COPIES = ("cifar10_train_jpeg.npz", "cifar10_test_jpeg.npz")


def find() -> Source:
    """Where the set lies, downloaded if it lies nowhere. Raises LabError if that fails."""
    place = find_place(*_PLACES) or fetch(ARCHIVE, cache() / "cifar10")
    if place.is_file():
        return Source("cifar10", (place,), partial(_read_archive, place))
    is_copy = place.name == "cifar10_jpeg"
    files = tuple(place / name for name in (_COPIES if is_copy else _BATCHES))
    return Source("cifar10", files, partial(_read_copy if is_copy else _read_batches, files))


def _read_archive(file: Path) -> Parts:
    """The official binary archive: of each picture a byte, its label, then the three colours."""
    verify(file, ARCHIVE)
    with _refused(file), tarfile.open(file) as tar:
        contents = [tar.extractfile(f"cifar-10-batches-bin/{name}.bin").read() for name in _BATCHES]
        records = [numpy.frombuffer(content, numpy.uint8).reshape(-1, 1 + 3 * 32 * 32)
                   for content in contents]
    return _join([(record[:, 1:], record[:, 0]) for record in records])


def _read_batches(files: Sequence[Path]) -> Parts:
    """torchvision's layout: six pickles, each a dict with `data` (10000, 3072) and `labels`."""
    batches = []
    for file in files:
        with _refused(file):
            content = storage.read(file, LARGEST)
            batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
            # a few bytes can name terabytes
            storage.require_bytes(getattr(batch["data"], "nbytes", 0), len(content))
            pixels = numpy.asarray(batch["data"], dtype=numpy.uint8).reshape(-1, 3 * 32 * 32)
            batches.append((pixels, numpy.asarray(batch["labels"], dtype=numpy.int64)))
    return _join(batches)


def _read_copy(files: Sequence[Path]) -> Parts:
    tensors = []
    for file in files:
        with _refused(file):
            data, ends, labels = (_array(file, name) for name in ("data", "offsets", "labels"))
            if data.dtype != numpy.uint8 or not 0 < len(labels) == len(ends) - 1 <= 50_000:
                raise ValueError(f"it has {len(labels)} labels for {len(ends) - 1} pictures")
            if ends[0] != 0 or ends[-1] != len(data) or (ends[1:] <= ends[:-1]).any():
                raise ValueError("its offsets do not cut its data into pictures")
        contents = ((f"picture {place} in {file}", data[start:end].tobytes())
                    for place, (start, end) in enumerate(pairwise(ends)))
        tensors += [decode(contents, len(labels), 32), torch.from_numpy(labels.astype(numpy.int64))]
    return Parts(*tensors, CLASS_NAMES, "CIFAR-10 (JPEG copy)")


def _array(file: Path, name: str) -> NDArray[Any]:
    """One array of whole numbers from an npz file; what its header promises takes no memory."""
    if not storage.is_file(file):
        raise ValueError("there is no file")
    with zipfile.ZipFile(file) as archive:
        storage.require_bytes(archive.getinfo(f"{name}.npy").file_size, LARGEST)
        member = io.BytesIO(archive.read(f"{name}.npy"))
    if npy.read_magic(member) != (1, 0):
        raise ValueError(f"{name} is of another version than numpy.savez writes")
    shape, _, kind = npy.read_array_header_1_0(member)
    values = numpy.frombuffer(member.read(), kind)
    if shape != values.shape or kind.kind not in "iu":
        raise ValueError(f"{name} is no row of whole numbers: it promises {shape} of {kind}")
    return values


def _join(batches: Sequence[tuple[Any, Any]]) -> Parts:
    """Batches of (pixels, labels), of which the last is the test part."""
    tensors: list[Tensor] = []
    for part in (batches[:-1], batches[-1:]):
        pixels, labels = (numpy.concatenate(arrays) for arrays in zip(*part))
        tensors += [torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.from_numpy(labels).long()]
    return Parts(*tensors, CLASS_NAMES, "CIFAR-10")


def _refused(file: Path) -> AbstractContextManager:
    return storage.refused(f"data.load: {file} cannot be read", "put a whole copy there")


class _Unpickler(pickle.Unpickler):
    """Admits the parts of arrays alone: a pickle from elsewhere could otherwise run any command."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name. Raises UnpicklingError unless arrays need it."""
        allowed = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
                   ("numpy.core.multiarray", "_reconstruct"),
                   ("numpy._core.multiarray", "_reconstruct")}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        with warnings.catch_warnings():
            # the module's old name, which old pickles use
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().find_class(module, name)
