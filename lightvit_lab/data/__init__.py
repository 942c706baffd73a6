"""Pictures to train on and to look at: `load(name, split)` gives one `Pictures`, the same shape
whatever the set.

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
from ..storage import shown
from . import cifar10, decoded, digits, fashion_mnist, flowers, folder, shapes
from .pictures import Pictures, resize
from .places import root

__all__ = ["SPLITS", "Pictures", "cache", "chosen", "load", "names", "root"]

SPLITS = ("train", "val", "test")
_FINDERS = {"digits": digits.find, "fashion_mnist": fashion_mnist.find, "cifar10": cifar10.find,
            "flowers": flowers.find}


def names() -> tuple[str, ...]:
    """The sets that `load` knows, beside any folder of pictures."""
    return "shapes", *_FINDERS


def chosen(default: str = "shapes") -> str:
    """The set that a page trains on: `LIGHTVIT_DATASET` if set, else `default`. Raises LabError on
    unknown names.
    """
    name = os.environ.get("LIGHTVIT_DATASET") or default
    _folder_of("data.chosen (LIGHTVIT_DATASET)", name)
    return name


@partial(plain_numbers, caller="data.load")
def load(name: str | Path = "shapes", split: str = "train", image_size: int = 32,
         count: int | None = None, seed: int = 0, level: str = "standard") -> Pictures:
    """Load one split of a set, or of a folder `name/{train,test}/<class>/**/*.jpg`, shuffled by
    `seed`.

    Pictures are resized to `image_size` x `image_size` pixels. `val` is a tenth of the training
    pictures, carved out with a fixed seed; nothing is chosen on `test`. `count` keeps the first so
    many, None all; of `shapes`, which are drawn by `seed` at a `level`, there are as many as asked
    for. What a folder holds beside pictures is counted in a warning. Raises LabError on unknown
    names and splits, on a count that is too large, and where files are missing or broken (it names
    them).
    """
    folder_path = _folder_of("data.load", name)
    require_choice("data.load", "split", split, SPLITS)
    require_range("data.load", "image_size", image_size, 4, 1024)
    require_range("data.load", "seed", seed, 0, 2**31)
    root()                      # a wrong LIGHTVIT_DATA is an error whatever the set
    if name == "shapes":
        pixels, labels, masks = shapes.read(split, image_size, count, seed, level)
        return Pictures(name, split, pixels, labels, shapes.CLASS_NAMES, *shapes.moments(level), masks,
                        f"Shapes ({level})")
    if level != "standard":
        raise LabError(f'data.load: level={level!r}, but {name} has no levels; leave it out, or load "shapes"')
    source = folder.find(folder_path, image_size) if folder_path else _FINDERS[name]()
    return _choose(folder_path.name if folder_path else name, source, split, image_size, count, seed)


def _folder_of(caller: str, name: Any) -> Path | None:
    """The folder that `name` is the path of; None for the name of a set. Raises LabError if it is
    neither.
    """
    if not isinstance(name, (str, Path)) or name == "" or name in names():
        require_choice(caller, "name", name, names())
        return None
    try:
        path = Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):     # a link onto itself, a name that cannot be
        path = Path(name)
    if os.path.isdir(path):
        return path
    if path.name != str(name):
        raise LabError(f"{caller}: name={shown(name)!r} is no folder (resolved: {shown(path)}); "
                       f"give the path of a folder of pictures, or one of: {', '.join(names())}")
    require_choice(caller, "name", name, names())


def _choose(name: str, source: decoded.Source, split: str, image_size: int, count: int | None,
            seed: int) -> Pictures:
    parts = _read(source, decoded.fingerprint(source.files))
    pixels, labels = parts[2:4] if split == "test" else parts[:2]
    train, val = decoded.carve(len(labels))
    index = {"train": train, "val": val, "test": torch.arange(len(labels))}[split]
    if len(index) == 0:
        raise LabError(f"data.load: {name} has {len(labels)} training pictures, too few for a tenth of them to be its "
                       "val split; add pictures, at least 10 in all")
    if count is not None:
        require_range("data.load", "count", count, 1, len(index))
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:count]]
    return Pictures(name, split, resize(pixels.index_select(0, index), image_size), labels[index], parts.class_names,
                    parts.mean, parts.std, title=parts.title)


_read = lru_cache(maxsize=2)(decoded.read)
