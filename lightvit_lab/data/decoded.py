"""Pictures decoded once: a copy of a set as plain bytes in the user's cache, checked when read."""

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
    """A whole set. Pixels (N, 1 or 3, H, W) are bytes, labels (N,) int64; `title` is for tables.

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


@dataclass(frozen=True)
class Source:
    """The files of a set and the function that reads them."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Parts] = field(compare=False)


def fingerprint(files: Sequence[Path]) -> str:
    """What changes when one of the files does: of paths, sizes and times.

    Raises LabError if one is missing.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:
            raise LabError(f"data.load: {file} is missing ({error.strerror}); put it there, or "
                           f"delete {file.parent}") from error
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def carve(count: int) -> tuple[Tensor, Tensor]:
    """Which of the `count` training pictures are left for training, and which tenth is val."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2505))
    val, train = order.tensor_split([count // 10])
    return train, val


def read(source: Source, stamp: str) -> Parts:
    """The pictures of a source whose files have the fingerprint `stamp`, from the decoded copy.

    The copy is made if there is none. Where the cache cannot be written, the files are decoded at
    every start, and a warning says why. Raises LabError on files that cannot be read.
    """
    path = cache() / "decoded" / f"{source.name}-{stamp}.safetensors"
    if parts := _open(path):
        return parts
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
    names = parts.class_names
    for pixels, labels in (parts[:2], parts[2:4]):
        fault = ""
        if len(pixels) != len(labels) or len(labels) == 0:
            fault = f"{len(pixels)} pictures with {len(labels)} labels in a part"
        elif labels.min() < 0 or labels.max() >= len(names):
            fault = (f"labels from {labels.min()} to {labels.max()}, its {len(names)} classes are "
                     f"0 to {len(names) - 1}")
        elif labels.min() == labels.max():
            fault = f"{len(labels)} pictures in a part, all of class {names[labels[0]]!r}"
        if fault:
            files = ", ".join(map(str, source.files[:6]))
            raise LabError(f"data.load: {source.name} has {fault}; put whole copies there: {files}")
    mean, std = moments(parts.train_pixels, carve(len(parts.train_labels))[0])
    return parts._replace(mean=mean, std=std)


def moments(pixels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel of some pictures (N, C, H, W), as parts of 255, each (3,).

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


def _open(path: Path) -> Parts | None:
    """The decoded copy; None if there is none, or if it is cut or changed by accident."""
    try:
        about, tensors = storage.read_tensors(path)
        names = tuple(storage.parse_json(about["class_names"]))
        parts = Parts(**tensors, class_names=names, title=about["title"])
        return parts if about["crc32"] == _crc32(parts) else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _write(path: Path, source: Source, parts: Parts) -> None:
    """Write the copy, then delete the outdated ones."""
    about = {"class_names": json.dumps(parts.class_names), "title": parts.title,
             "crc32": _crc32(parts)}
    try:
        storage.write_tensors("data.load", path, _tensors(parts), about, make_folder=True)
    except LabError as error:
        _warn(path, error)
        return
    for old in set(path.parent.glob(f"{source.name}-*.safetensors")) - {path}:
        with suppress(OSError):
            old.unlink()


def _tensors(parts: Parts) -> dict[str, Tensor]:
    return {name: part for name, part in parts._asdict().items() if isinstance(part, Tensor)}


def _crc32(parts: Parts) -> str:
    value = zlib.crc32(json.dumps([*parts.class_names, parts.title]).encode())
    for tensor in _tensors(parts).values():
        value = zlib.crc32(tensor.numpy(), value)
    return f"{value:08x}"


def _warn(path: Path, error: Exception) -> None:
    warnings.warn(f"the decoded pictures cannot be stored in {path.parent} ({error}), so the next "
                  "start decodes them again; set LIGHTVIT_CACHE to a folder that can be written",
                  stacklevel=2)
