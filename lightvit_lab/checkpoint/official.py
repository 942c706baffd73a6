"""Weights from files: `import_official` reads what authors publish, runs no code from it and
downloads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, storage
from ..errors import LabError
from ..runtime import file_path
from ..runtime.wrapped import plain_name

# under these names training scripts keep the weights beside other things
WRAPPINGS = ("state_dict", "model")
SHOWN = 4                             # names of each kind in an error


def import_official(source: str | os.PathLike | Mapping[str, Any],
                    name: str | None = None) -> nn.Module:
    """The model `name` with the published weights in `source`, strictly loaded, in eval mode.

    `source` is the path of a .pth, .pt or .ckpt file, or what is in it: a dict of tensors, bare or
    under "state_dict" or "model", with or without what DataParallel, DistributedDataParallel and
    torch.compile put into the names. Without a name, the published LightViT of that width is taken;
    the number of classes is that of the weights. Files are read with `weights_only=True`. Raises
    LabError if the file cannot be read so, or names and shapes are not those of the model.
    """
    weights = _unwrap(_read(source) if isinstance(source, (str, os.PathLike)) else source)
    name = name or _published_name(weights)
    model = models.create_model(name, **_classes(name, weights))
    _require_fit(name, model.state_dict(), weights)
    model.load_state_dict(weights)
    return model.eval()


def _read(path: str | os.PathLike) -> Any:
    path = file_path(path)
    if not storage.is_file(path):
        raise LabError(f"import_official: there is no file {storage.shown(path)!r}; nothing is "
                       "downloaded here, give the path of the file that the authors publish")
    with storage.refused(f"import_official: {path} is no file of weights alone",
                         "it is damaged, or reading it would run code. If you trust who made it, "
                         "read it yourself and give what is in it: "
                         "import_official(torch.load(path, weights_only=False))"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The dict of tensors in `content`, without what wrappers put into its names."""
    while isinstance(content, Mapping) and any(isinstance(content.get(key), Mapping) for key in WRAPPINGS):
        content = next(content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping))
    is_weights = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not is_weights or not content:
        found = f"a dict with {_some(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise LabError(f"import_official: found {found} where a dict of tensors is needed, bare or under "
                       f"{' or '.join(map(repr, WRAPPINGS))}; if it is under another name, give that part")
    return {plain_name(str(key)): value for key, value in content.items()}


def _classes(name: str, weights: dict[str, Tensor]) -> dict[str, int]:
    """The number of classes that the head of `weights` makes, as an argument; none where it has
    another name.

    timm's models say what they call the last layer, or the last layers, and the lab's call it
    `head`.
    """
    try:
        with torch.device("meta"):
            about = getattr(models.create_model(name), "pretrained_cfg", {})
    except LabError:
        raise
    except Exception:       # noqa: BLE001  some models look at values as they are made
        about = getattr(models.create_model(name), "pretrained_cfg", {})
    heads = about.get("classifier") or "head"
    for head in (heads,) if isinstance(heads, str) else heads:
        if (weight := weights.get(f"{head}.weight")) is not None and weight.ndim:
            return {"num_classes": weight.shape[0]}
    return {}


def _published_name(weights: dict[str, Tensor]) -> str:
    """The published LightViT whose global tokens are as many and as wide as those of `weights`."""
    given = tuple(weights["global_token"].shape) if "global_token" in weights else None
    with torch.device("meta"):
        published = {tuple(models.create_model(name).global_token.shape): name for name in models.PUBLISHED}
    if given not in published:
        has = f"global_token of shape {given}" if given else f"no global_token, but {_some(weights)}"
        raise LabError(f"import_official: the weights have {has}, and so are of none of {', '.join(models.PUBLISHED)}; "
                       "name the model they are of: import_official(source, name)")
    return published[given]


def _require_fit(name: str, needed: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Raise LabError that counts and names what is missing, unexpected and of another shape."""
    other = [f"{key} {tuple(given[key].shape)} instead of {tuple(needed[key].shape)}"
             for key in needed if key in given and given[key].shape != needed[key].shape]
    faults = {"missing": [key for key in needed if key not in given],
              "unexpected": [key for key in given if key not in needed], "of another shape": other}
    found = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in faults.items() if keys)
    if found:
        raise LabError(f"import_official: these are no weights of {name}. Of its {len(needed)} tensors and the "
                       f"{len(given)} given, {found}. Give weights of {name}, or name another of "
                       f"{', '.join(models.PUBLISHED)}, or any of models.create_model")


def _some(names: Any) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more or "nothing in it"
