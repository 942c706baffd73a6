"""Any folder of pictures, `path/{train,test}/<class>/*.jpg`: torchvision's ImageFolder layout."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from typing import TypeVar

import torch

from ..errors import LabError
from ..storage import read, refused
from .decoded import Parts, Source
from .images import LARGEST_FILE, decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "lay it out as path/train/<class>/*.jpg and path/test/<class>/*.jpg"
PARTS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
AnyPath = TypeVar("AnyPath", bound=PurePath)
Classes = Mapping[str, Sequence[Path]]      # name -> picture files
Skipped = dict[str, list[Path]]      # reason -> files that are not used


def find(path: Path, image_size: int) -> Source:
    """The pictures below `path`, in each class folder however deep; decoded at `image_size`.

    `val` is the test part where there is no `test`. Where there is neither, or no `train`, a fifth
    of each class is the test part. Class names are compared in one Unicode form (NFC). What is no
    picture, hidden, a link to nothing or beside the parts is skipped, and a warning counts it.
    Raises LabError on empty folders and classes, on a single class, and on parts of other names,
    which would be taken for classes.
    """
    path, skipped = path.resolve(), {}
    parts = []
    if (path / "train").is_dir():
        parts = ["train", *[name for name in ("test", "val") if (path / name).is_dir()][:1]]
        for other in _listed(path):
            if other.name not in parts:
                _skip(skipped, f"beside {' and '.join(parts)}", other)
    train = classes(path / "train" if parts else path, skipped)
    train, test = (train, classes(path / parts[1], skipped)) if len(parts) == 2 else carve(train)
    if list(train) != list(test):
        differing = ", ".join(sorted(set(train) ^ set(test)))
        raise LabError(f"data.load: {differing} of {path} is a class in only one of train and "
                       f"{parts[1]}; give both the same classes")
    _warn(path, skipped)
    key = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return source(train, test, image_size, f"folder-{key}-{image_size}", path.name)


def _skip(skipped: Skipped, reason: str, path: Path) -> None:
    """Note a file, or every file and every link to a folder below a folder."""
    below = [path]
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
    if below:
        skipped.setdefault(reason, []).extend(below)


def _warn(path: Path, skipped: Skipped) -> None:
    """One warning that counts the skipped files and names the first of each reason."""
    if skipped:
        total = sum(map(len, skipped.values()))
        parts = [f"{len(files)} {reason} ({files[0].relative_to(path)}{', ...' * (len(files) > 1)})"
                 for reason, files in skipped.items()]
        warnings.warn(f"data.load: {total} file{'s' * (total > 1)} in {path} left out: "
                      f"{'; '.join(parts)}", stacklevel=4)


def classes(folder: Path, skipped: Skipped) -> dict[str, list[Path]]:
    """Class names, sorted, and the picture files of each; others are added to `skipped`.

    Raises LabError unless two or more classes have pictures.
    """
    files: dict[str, list[Path]] = {}
    for path in _listed(folder):
        if path.name.startswith("."):
            _skip(skipped, "hidden", path)
        elif not path.is_dir():
            _skip(skipped, "beside the class folders", path)
        else:
            files.setdefault(_nfc(path.name), []).extend(_pictures(path, skipped))
    _require_classes(folder, files)
    return {name: sorted(files[name], key=_order) for name in sorted(files)}


def _require_classes(folder: Path, files: Classes) -> None:
    parts = [name for name in files if name.casefold() in PARTS and _is_part(folder / name)]
    empty = [name for name in files if not files[name]]
    if parts:
        raise LabError(f"data.load: {', '.join(parts)} of {folder} would be taken for a class; "
                       f"{LAYOUT}, the parts named train and test")
    if len(files) < 2:
        there = f"only the class folder {''.join(files)}" if files else "no class folders"
        raise LabError(f"data.load: {folder} has {there}; {LAYOUT}, with at least two classes")
    if empty:
        raise LabError(f"data.load: no pictures ({', '.join(SUFFIXES)}) in {', '.join(empty)} of "
                       f"{folder}; add some, or delete the empty folder")


def _is_part(folder: Path) -> bool:
    """Whether this folder contains folders, as a part of a set does."""
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())


def _pictures(folder: Path, skipped: Skipped, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The picture files below a folder; links are followed, but not back to a folder above."""
    above = (*above, folder.resolve())
    for path in _listed(folder):
        if path.name.startswith("."):
            _skip(skipped, "hidden", path)
        elif path.is_dir() and path.resolve() in above:
            skipped.setdefault("a link back to a folder above", []).append(path)
        elif path.is_dir():
            yield from _pictures(path, skipped, above)
        elif not path.is_file():
            _skip(skipped, "no file, or a link to nothing", path)
        elif path.suffix.lower() not in SUFFIXES:
            _skip(skipped, f"of another ending than {', '.join(SUFFIXES)}", path)
        else:
            yield path


def _nfc(name: str) -> str:
    """A name in the composed Unicode form: systems write é in one letter or in two."""
    return unicodedata.normalize("NFC", name)


def _order(path: PurePath) -> tuple[str, ...]:
    """What files are sorted by: the same on a system that writes é in two letters."""
    return tuple(map(_nfc, path.parts))


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, in order. Raises LabError where it cannot be read."""
    with refused(f"data.load: {folder} cannot be listed", "let this user read it, or move it away"):
        return sorted(folder.iterdir(), key=_order)


def carve(files: Mapping[str, Sequence[AnyPath]]) -> list[dict[str, list[AnyPath]]]:
    """[train, test]: each class split four to one by a hash of its file names.

    The same on every machine. Raises LabError where a class has a single picture.
    """
    train, test = {}, {}
    for name, paths in files.items():
        if len(paths) < 2:
            raise LabError(f"data.load: class {name} has one picture, {paths[0]}, too few for a "
                           f"training and a test part; add some, or {LAYOUT}")
        by_hash = sorted(paths, key=lambda path: hashlib.sha256(_nfc(path.name).encode()).digest())
        cut = max(1, len(paths) // 5)
        train[name] = sorted(by_hash[cut:], key=_order)
        test[name] = sorted(by_hash[:cut], key=_order)
    return [train, test]


def source(train: Classes, test: Classes, size: int, name: str, title: str) -> Source:
    """The source of two parts, each a mapping of class names to files."""
    files = (*chain(*train.values()), *chain(*test.values()))
    return Source(name, files, partial(_read, train, test, size, title))


def _read(train: Classes, test: Classes, size: int, title: str) -> Parts:
    tensors = []
    for part in (train, test):
        contents = ((str(file), _content(file)) for file in chain(*part.values()))
        labels = [label for label, files in enumerate(part.values()) for _ in files]
        tensors += [decode(contents, len(labels), size), torch.tensor(labels)]
    return Parts(*tensors, tuple(train), title)


def _content(file: Path) -> bytes:
    with refused(f"data.load: {file} cannot be read", "delete it, or put a whole picture there"):
        return read(file, LARGEST_FILE)
