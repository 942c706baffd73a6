"""Pictures to train on and to draw: `load(name, split)` gives one `Pictures`, whatever the set.

`shapes` are drawn by the lab, `digits` come with scikit-learn. The others are looked for in the
folder that `LIGHTVIT_DATA` names, then in the user's cache, and are then downloaded.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from ..errors import LabError, plain_numbers, require_choice, require_range
from ..runtime import cache
from ..storage import printable
from . import cifar10, decoded, digits, fashion_mnist, flowers, folder, shapes
from .pictures import Pictures, resize
from .places import root

__all__ = ["SPLITS", "Pictures", "cache", "chosen", "load", "names", "root"]

SPLITS = ("train", "val", "test")
_FINDERS = {"digits": digits.find, "fashion_mnist": fashion_mnist.find, "cifar10": cifar10.find,
            "flowers": flowers.find}


def names() -> tuple[str, ...]:
    """The sets that `load` knows, besides any folder of pictures."""
    return "shapes", *_FINDERS


def chosen(default: str = "shapes") -> str:
    """The set that a page trains on: `LIGHTVIT_DATASET`, else `default`.

    Raises LabError on unknown names.
    """
    name = os.environ.get("LIGHTVIT_DATASET") or default
    _folder_of("data.chosen (LIGHTVIT_DATASET)", name)
    return name


@partial(plain_numbers, caller="data.load")
def load(name: str | Path = "shapes", split: str = "train", image_size: int = 32,
         count: int | None = None, seed: int = 0, level: str = "standard") -> Pictures:
    """Load one split of a set, or of a folder `name/{train,test}/<class>/**/*.jpg`.

    Pictures are resized to `image_size` x `image_size` pixels. `val` is a tenth of the training
    pictures, carved out with a fixed seed; nothing is chosen on `test`. The pictures are shuffled
    by `seed`, and `count` takes the first so many, None all; of `shapes`, which are drawn by `seed`
    at a `level`, there are as many as `count` says. What a folder has besides pictures is counted
    in a warning. Raises LabError on unknown names and splits, on a count that is too large, and
    where files are missing or broken (it names them).
    """
    path = _folder_of("data.load", name)
    require_choice("data.load", "split", split, SPLITS)
    require_range("data.load", "image_size", image_size, 4, 1024)
    require_range("data.load", "seed", seed, 0, 2**31)
    root()                      # a wrong LIGHTVIT_DATA is an error whatever the set
    if name == "shapes":
        return _draw(split, image_size, count, seed, level)
    if level != "standard":
        raise LabError(f'data.load: level={level!r}, but {name} has no levels; load "shapes"')
    source = folder.find(path, image_size) if path else _FINDERS[name]()
    parts = _read(source, decoded.fingerprint(source.files))
    return _select(path.name if path else name, parts, split, image_size, count, seed)


def _folder_of(caller: str, name: Any) -> Path | None:
    """The folder that `name` is the path of; None for the name of a set, else LabError."""
    if isinstance(name, (str, Path)) and name != "" and name not in names():
        try:
            path = Path(name).expanduser().resolve()
        except (OSError, RuntimeError, ValueError):     # a link onto itself, a name that cannot be
            path = Path(name)
        if os.path.isdir(path):
            return path
        if path.name != str(name):
            raise LabError(f"{caller}: name={printable(name)!r} is no folder (resolved: "
                           f"{printable(path)}); give the path of a folder of pictures, or one of: "
                           f"{', '.join(names())}")
    require_choice(caller, "name", name, names())
    return None


def _draw(split: str, image_size: int, count: int | None, seed: int, level: str) -> Pictures:
    pixels, labels, masks = shapes.read(split, image_size, count, seed, level)
    about = shapes.LEVELS[level]
    return Pictures("shapes", split, pixels, labels, shapes.CLASS_NAMES, torch.tensor(about.mean),
                    torch.tensor(about.std), masks, f"Shapes ({level})")


def _select(name: str, parts: decoded.Parts, split: str, image_size: int, count: int | None,
            seed: int) -> Pictures:
    pixels, labels = parts[2:4] if split == "test" else parts[:2]
    train, val = decoded.carve(len(labels))
    index = {"train": train, "val": val, "test": torch.arange(len(labels))}[split]
    if len(index) == 0:
        raise LabError(f"data.load: {name} has {len(labels)} training pictures, too few for a val "
                       "split, which is a tenth of them; add pictures, at least 10 in all")
    if count is not None:
        require_range("data.load", "count", count, 1, len(index))
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    index = index[order[:count]]
    pixels = resize(pixels.index_select(0, index), image_size)
    return Pictures(name, split, pixels, labels[index], parts.class_names, parts.mean, parts.std,
                    title=parts.title)


_read = lru_cache(maxsize=2)(decoded.read)
