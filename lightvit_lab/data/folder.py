"""Any folder of pictures, `path/{train,test}/<class>/*.jpg`: each part as torchvision's ImageFolder
has it.
"""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
PARTS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
AnyPath = TypeVar("AnyPath", bound=PurePath)


class LeftOut:
    """What lies in a given folder and is not used: reason -> files, so that nothing is left out
    silently.
    """

    def __init__(self, path: Path):
        self.path = path
        self.files: dict[str, list[Path]] = {}

    def add(self, reason: str, path: Path) -> None:
        """Note a file, or every file and every link to a folder below a folder."""
        below = [path]
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
        if below:
            self.files.setdefault(reason, []).extend(below)

    def warn(self) -> None:
        """One warning that counts the files, says why each is left out, and names the first of each
        reason.
        """
        if not self.files:
            return
        total = sum(map(len, self.files.values()))
        parts = [f"{len(files)} {reason} ({files[0].relative_to(self.path)}{', ...' if files[1:] else ''})"
                 for reason, files in self.files.items()]
        warnings.warn(f"data.load: {total} file{'s' * (total > 1)} in {self.path} left out: {'; '.join(parts)}",
                      stacklevel=4)


def find(path: Path, image_size: int) -> Source:
    """The pictures below `path`, in each class folder however deep; decoded at `image_size`.

    `val` is the test part where there is no `test`. Where there is neither, or no `train`, a fifth
    of each class is the test part. Class names are compared in one Unicode form (NFC). What is no
    picture, hidden, a link to nothing or beside the parts is left out, and a warning counts it.
    Raises LabError on empty folders and classes, on a single class, and on parts of other names,
    which would be taken for classes.
    """
    path = path.resolve()
    left_out = LeftOut(path)
    has_train = (path / "train").is_dir()
    held_out = next((path / name for name in ("test", "val") if has_train and (path / name).is_dir()), None)
    if has_train:
        used = ("train", held_out.name) if held_out else ("train",)
        for other in _listed(path):
            if other.name not in used:
                left_out.add(f"beside {' and '.join(used)}", other)
    train = classes(path / "train" if has_train else path, left_out)
    train, test = (train, classes(held_out, left_out)) if held_out else carve(train)
    if list(train) != list(test):
        differing = sorted(set(train) ^ set(test))
        raise LabError(f"data.load: {', '.join(differing)} of {path} is a class in only one of train and "
                       f"{held_out.name}; give both the same classes")
    left_out.warn()
    key = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return source(train, test, image_size, f"folder-{key}-{image_size}", path.name)


def classes(folder: Path, left_out: LeftOut | None = None) -> dict[str, list[Path]]:
    """Class names, sorted, and the picture files of each; what is left out is added to `left_out`.

    Raises LabError unless two or more classes have pictures.
    """
    left_out = left_out or LeftOut(folder)
    found: dict[str, list[Path]] = {}
    for path in _listed(folder):
        if path.name.startswith("."):
            left_out.add("hidden", path)
        elif not path.is_dir():
            left_out.add("beside the class folders", path)
        else:
            found.setdefault(_name(path), []).extend(_pictures(path, left_out))
    found = {name: sorted(found[name], key=_order) for name in sorted(found)}
    _require_classes(folder, found)
    return found


def _require_classes(folder: Path, found: Mapping[str, Sequence[Path]]) -> None:
    empty = [name for name, files in found.items() if not files]
    if parts := [name for name in found if name.casefold() in PARTS and _is_part(folder / name)]:
        raise LabError(f"data.load: {', '.join(parts)} of {folder} would be taken for a class; {LAYOUT}, the parts "
                       "named train and test")
    if len(found) < 2:
        held = f"only the class folder {next(iter(found))}" if found else "no class folders"
        raise LabError(f"data.load: {folder} holds {held}; {LAYOUT}, with at least two classes")
    if empty:
        raise LabError(f"data.load: no pictures ({', '.join(SUFFIXES)}) in {', '.join(empty)} of {folder}; add some, "
                       "or delete the empty folder")


def _is_part(folder: Path) -> bool:
    """Whether this folder holds folders, as a part of a set does."""
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())


def _pictures(folder: Path, left_out: LeftOut, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The picture files in a folder and in those in it; links are followed, but not back to a
    folder above.
    """
    above = (*above, folder.resolve())
    for path in _listed(folder):
        if path.name.startswith("."):
            left_out.add("hidden", path)
        elif path.is_dir() and path.resolve() in above:
            left_out.files.setdefault("a link back to a folder above", []).append(path)
        elif path.is_dir():
            yield from _pictures(path, left_out, above)
        elif not path.is_file():
            left_out.add("no file, or a link to nothing", path)
        elif path.suffix.lower() not in SUFFIXES:
            left_out.add(f"of another ending than {', '.join(SUFFIXES)}", path)
        else:
            yield path


def _name(path: PurePath) -> str:
    """The name of a file or folder in the composed Unicode form: systems write é in one letter or
    in two.
    """
    return unicodedata.normalize("NFC", path.name)


def _order(path: PurePath) -> tuple[str, ...]:
    """What files are sorted by: a copy on another system, with é in two letters, comes in the same
    order.
    """
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, in order. Raises LabError where it cannot be read."""
    with refused(f"data.load: {folder} cannot be listed", "let this user read it, or move it elsewhere"):
        return sorted(folder.iterdir(), key=_order)


def carve(
    found: Mapping[str, Sequence[AnyPath]]
) -> tuple[dict[str, list[AnyPath]], dict[str, list[AnyPath]]]:
    """Split each class four to one, into train and test, by a hash of the file names: the same on
    every machine.

    Raises LabError where a class has a single picture.
    """
    train, test = {}, {}
    for name, files in found.items():
        if len(files) < 2:
            raise LabError(f"data.load: class {name} has one picture, {files[0]}, too few for a training and a test "
                           f"part; add some, or {LAYOUT}")
        ordered = sorted(files, key=lambda file: hashlib.sha256(_name(file).encode()).digest())
        cut = max(1, len(files) // 5)
        train[name], test[name] = sorted(ordered[cut:], key=_order), sorted(ordered[:cut], key=_order)
    return train, test


def source(train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], size: int,
           name: str, title: str) -> Source:
    """The source of two parts, each a mapping of class names to files."""
    files = tuple(file for part in (train, test) for held in part.values() for file in held)
    return Source(name, files, partial(_read, train, test, size, title))


def _read(train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], size: int,
          title: str) -> Parts:
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
