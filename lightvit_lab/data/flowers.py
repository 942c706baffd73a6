"""Flowers: 3,670 photographs of five kinds of flowers, TensorFlow's flower_photos.

CC BY 2.0 per photograph. Read from the unpacked archive, from the archive itself, or from a copy at
128 pixels in two tar files; decoded at 128 x 128 pixels. There is no official split: the copy comes
with one, else a fifth of each class is the test part.
"""

from __future__ import annotations

import tarfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ..errors import LabError
from ..runtime import cache
from ..storage import require_bytes
from . import folder
from .decoded import Parts, Source
from .download import Remote, fetch, verify
from .images import LARGEST_FILE, decode
from .places import find as find_place

CLASS_NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
SIZE = 128
ARCHIVE = Remote(
    "flower_photos.tgz",
    ("https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
     "http://download.tensorflow.org/example_images/flower_photos.tgz"),
    "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c", size=228_813_984,
    room=3670 * 3 * SIZE**2)
_PLACES = ("flower_photos", "flowers/flower_photos", "flowers/flower_photos.tgz",
           "flower_photos.tgz", "flower_photos_128")


def find() -> Source:
    """Where the set lies, downloaded if it lies nowhere. Raises LabError if that fails."""
    place = find_place(*_PLACES) or fetch(ARCHIVE, cache() / "flowers")
    if place.name == "flower_photos_128":
        files = tuple(place / f"flower_photos_128_{part}.tar" for part in ("train", "val"))
        return Source("flowers", files, partial(_read_copy, files))
    if place.is_dir():
        return folder.source(*folder.carve(folder.classes(place, {})), SIZE, "flowers", "Flowers")
    return Source("flowers", (place,), partial(_read_archive, place))


def _read_copy(files: tuple[Path, ...]) -> Parts:
    parts = []
    for file in files:
        paths, pixels = _unpack(file)
        parts += _select(paths, pixels, sorted(paths))
    return Parts(*parts, CLASS_NAMES, "Flowers (128 px copy)")


def _read_archive(file: Path) -> Parts:
    verify(file, ARCHIVE)
    paths, pixels = _unpack(file)
    classes = {name: [] for name in CLASS_NAMES}
    for path in paths:
        if path.parent.name in classes:
            classes[path.parent.name].append(path)
    parts = []
    for part in folder.carve(classes):
        parts += _select(paths, pixels, sum(part.values(), []))
    return Parts(*parts, CLASS_NAMES, "Flowers")


def _unpack(file: Path) -> tuple[list[PurePosixPath], Tensor]:
    """Paths and pixels of the pictures in a tar file, in its order. Nothing is written to disk."""
    try:
        with tarfile.open(file) as tar:
            members = [member for member in tar if member.isfile() and _is_picture(member.name)]
            require_bytes(max((member.size for member in members), default=0), LARGEST_FILE)
            contents = ((f"{member.name} in {file}", tar.extractfile(member).read())
                        for member in members)
            pixels = decode(contents, len(members), SIZE)
    except LabError:
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise LabError(f"data.load: {file} is no whole tar file ({error}); put a whole copy there"
                       ) from error
    return [PurePosixPath(member.name) for member in members], pixels


def _select(paths: list[PurePosixPath], pixels: Tensor,
            selected: list[PurePosixPath]) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the `selected` among the pictures of an archive."""
    places = {path: place for place, path in enumerate(paths)}
    labels = [CLASS_NAMES.index(path.parent.name) for path in selected]
    return pixels[[places[path] for path in selected]], torch.tensor(labels)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return (path.suffix == ".jpg" and not path.name.startswith(".")
            and path.parent.name in CLASS_NAMES)
