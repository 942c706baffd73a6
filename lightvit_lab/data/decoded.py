"""Pictures decoded once: a copy of a set as plain bytes in the user's cache, checked at each load."""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from .. import storage
from ..errors import LabError
from ..runtime import cache
from .places import acquire


class Parts(NamedTuple):
    """A whole set. Pixels (N, 1 or 3, H, W) are bytes, labels (N,) int64; `title` is the set's name
    in tables.

    `mean` and `std` (3,) are those of the pictures that are left for training; `read` adds them.
    """

    train_pixels: Tensor
    train_labels: Tensor
    test_pixels: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    title: str
    mean: Tensor | None = None
    std: Tensor | None = None


_TENSORS = ("train_pixels", "train_labels", "test_pixels", "test_labels", "mean", "std")


@dataclass(frozen=True)
class Source:
    """The files of a set and the function that reads them."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Parts] = field(compare=False)


def fingerprint(files: Sequence[Path]) -> str:
    """What changes when one of the files does: of paths, sizes and times. Raises LabError if one is
    missing.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            about = file.stat()
        except OSError as error:
            raise LabError(f"data.load: {file} is missing ({error.strerror}); put a whole copy of the set there, or "
                           f"delete {file.parent}") from error
        digest.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def carve(count: int) -> tuple[Tensor, Tensor]:
    """Which of the `count` training pictures of a set are left for training, and which tenth is the
    val split.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2505))
    val, train = order.tensor_split([count // 10])
    return train, val


def read(source: Source, stamp: str) -> Parts:
    """The pictures of a source whose files have the fingerprint `stamp`: from the decoded copy,
    else made and kept.

    Where the cache cannot be written, they are decoded at every start, and a warning says why.
    Raises LabError on files that cannot be read.
    """
    path = cache() / "decoded" / f"{source.name}-{stamp}.safetensors"
    return _open(path) or _make(path, source)


def _make(path: Path, source: Source) -> Parts:
    try:
        lock = acquire(path.with_name(source.name))
    except OSError as error:
        _warn(path, error)
        return _checked(source)
    with lock:
        parts = _open(path)         # another process may have made it while we waited
        if parts is None:
            parts = _checked(source)
            _write(path, source, parts)
        return parts


def _checked(source: Source) -> Parts:
    """Read the files; raise LabError where pictures and labels do not belong together."""
    parts = source.read()
    known = len(parts.class_names)
    for pixels, labels in ((parts.train_pixels, parts.train_labels), (parts.test_pixels, parts.test_labels)):
        if len(pixels) != len(labels) or len(labels) == 0:
            raise LabError(f"data.load: {source.name} has {len(pixels)} pictures with {len(labels)} labels in a part; "
                           f"put whole copies of its files there: {_shown(source.files)}")
        if labels.min() < 0 or labels.max() >= known:
            raise LabError(f"data.load: {source.name} has labels from {labels.min()} to {labels.max()}, its {known} "
                           f"classes are 0 to {known - 1}; put whole copies of its files there: {_shown(source.files)}")
        if labels.min() == labels.max():
            raise LabError(f"data.load: all {len(labels)} pictures in one part of {source.name} are of class "
                           f"{parts.class_names[labels[0]]!r}; give at least two classes")
    mean, std = moments(parts.train_pixels, carve(len(parts.train_labels))[0])
    return parts._replace(mean=mean, std=std)


def moments(pixels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of some pictures (N, C, H, W), as fractions of 255,
    each (3,).

    From how often each of the 256 values occurs: exact, and no picture becomes floats.
    """
    counts = torch.zeros(pixels.shape[1], 256, dtype=torch.double)
    for part in index.split(512):
        channels = pixels.index_select(0, part).unbind(1)
        counts += torch.stack([channel.flatten().bincount(minlength=256) for channel in channels])
    values, total = torch.arange(256) / 255.0, counts[0].sum()
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / (total - 1)
    # a colour that never changes is divided by something
    std = variance.sqrt().clamp(min=1 / 255)
    return mean.float().expand(3).clone(), std.float().expand(3).clone()


def _shown(files: Sequence[Path]) -> str:
    return ", ".join(str(file) for file in files[:6])


def _open(path: Path) -> Parts | None:
    """The decoded copy; None if there is none, or if it is cut or changed (a crc32 finds what is
    not malice).
    """
    try:
        about, tensors = storage.read_tensors(path)
        names = tuple(storage.parse_json(about["class_names"]))
        parts = Parts(**tensors, class_names=names, title=about["title"])
        return parts if about["crc32"] == _crc32(parts) else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _write(path: Path, source: Source, parts: Parts) -> None:
    """Write the copy, then delete the outdated ones."""
    tensors = {name: getattr(parts, name) for name in _TENSORS}
    about = {"class_names": json.dumps(parts.class_names), "title": parts.title, "crc32": _crc32(parts)}
    try:
        storage.write_tensors("data.load", path, tensors, about, make_folder=True)
    except LabError as error:
        _warn(path, error)
        return
    for old in path.parent.glob(f"{source.name}-*.safetensors"):
        if old != path:
            with suppress(OSError):
                old.unlink()


def _crc32(parts: Parts) -> str:
    value = zlib.crc32(json.dumps([*parts.class_names, parts.title]).encode())
    for name in _TENSORS:
        value = zlib.crc32(getattr(parts, name).numpy(), value)
    return f"{value:08x}"


def _warn(path: Path, error: Exception) -> None:
    warnings.warn(f"the decoded pictures cannot be kept in {path.parent} ({error}), so the next start decodes them "
                  "again; set LIGHTVIT_CACHE to a folder that can be written", stacklevel=2)
