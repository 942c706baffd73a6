"""Any folder of pictures, `path/{train,test}/<class>/*.jpg`: each part as torchvision's ImageFolder has it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TypeVar

import torch

from ..errors import LabError
from ..storage import read, refused
from .decoded import Parts, Source
from .images import LARGEST_FILE, decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "lay it out as path/train/<class>/*.jpg and path/test/<class>/*.jpg"
AnyPath = TypeVar("AnyPath", bound=PurePath)


def find(path: Path, image_size: int) -> Source:
    """The pictures below `path`, each part with the same classes; decoded at `image_size`.

    `val` is the test part where there is no `test`. Where there is neither, or no `train`, a fifth of each class is
    the test part. Raises LabError on empty folders and classes, and on a single class.
    """
    path = path.resolve()
    has_train = (path / "train").is_dir()
    held_out = next((path / name for name in ("test", "val") if has_train and (path / name).is_dir()), None)
    train = classes(path / "train" if has_train else path)
    train, test = (train, classes(held_out)) if held_out else carve(train)
    if list(train) != list(test):
        differing = sorted(set(train) ^ set(test))
        raise LabError(f"data.load: {', '.join(differing)} of {path} is a class in only one of train and "
                       f"{held_out.name}; give both the same classes")
    key = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return source(train, test, image_size, f"folder-{key}-{image_size}", path.name)


def classes(folder: Path) -> dict[str, list[Path]]:
    """Class names, sorted, and the picture files of each. Raises LabError unless two or more classes have pictures."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: sorted(file for file in path.iterdir() if _is_picture(file)) for path in inner}
    empty = [name for name, files in found.items() if not files]
    if len(found) < 2:
        held = f"only the class folder {inner[0].name}" if inner else "no class folders"
        raise LabError(f"data.load: {folder} holds {held}; {LAYOUT}, with at least two classes")
    if empty:
        raise LabError(f"data.load: no pictures ({', '.join(SUFFIXES)}) in {', '.join(empty)} of {folder}; add some, "
                       "or delete the empty folder")
    return found


def carve(found: Mapping[str, Sequence[AnyPath]]) -> tuple[dict[str, list[AnyPath]], dict[str, list[AnyPath]]]:
    """Split each class four to one, into train and test, by a hash of the file names: the same on every machine.

    Raises LabError where a class has a single picture.
    """
    train, test = {}, {}
    for name, files in found.items():
        if len(files) < 2:
            raise LabError(f"data.load: class {name} has one picture, {files[0]}, too few for a training and a test "
                           f"part; add some, or {LAYOUT}")
        ordered = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
        cut = max(1, len(files) // 5)
        train[name], test[name] = sorted(ordered[cut:]), sorted(ordered[:cut])
    return train, test


def source(train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], size: int, name: str,
           title: str) -> Source:
    """The source of two parts, each a mapping of class names to files."""
    files = tuple(file for part in (train, test) for held in part.values() for file in held)
    return Source(name, files, partial(_read, train, test, size, title))


def _read(train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], size: int, title: str) -> Parts:
    tensors = []
    for part in (train, test):
        files = [file for held in part.values() for file in held]
        labels = [label for label, held in enumerate(part.values()) for _ in held]
        pixels = decode(((str(file), _content(file)) for file in files), len(files), size)
        tensors += [pixels, torch.tensor(labels)]
    return Parts(*tensors, tuple(train), title)


def _content(file: Path) -> bytes:
    with refused(f"data.load: {file} cannot be read", "delete it, or put a whole picture there"):
        return read(file, LARGEST_FILE)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
