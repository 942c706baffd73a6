"""Weights that authors publish: `import_official` runs no code from a file, downloads nothing."""

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
from .recipes import misfit, some

# under these names training scripts store the weights next to other things
WRAPPINGS = ("state_dict", "model")


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
    if faults := misfit(model.state_dict(), weights):
        raise LabError(f"import_official: these are no weights of {name}: {faults}. Name their "
                       f"model: {', '.join(models.PUBLISHED)}, or any of models.create_model")
    model.load_state_dict(weights)
    return model.eval()


def _read(path: str | os.PathLike) -> Any:
    path = file_path(path)
    if not storage.is_file(path):
        raise LabError(f"import_official: there is no file {storage.printable(path)!r}; nothing is "
                       "downloaded here, give the path of the file that the authors publish")
    with storage.refused(f"import_official: {path} is no file of weights alone",
                         "it is damaged, or would run code. If you trust who made it, read it "
                         "yourself: import_official(torch.load(path, weights_only=False))"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The dict of tensors in `content`, without what wrappers put into its names."""
    is_dict = isinstance(content, Mapping)
    for key in WRAPPINGS:
        if is_dict and isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    if not is_dict or not content or not all(isinstance(each, Tensor) for each in content.values()):
        found = f"a dict with {some(content)}" if is_dict else f"a {type(content).__name__}"
        raise LabError(f"import_official: found {found} where a dict of tensors is needed, bare or "
                       f"under {' or '.join(map(repr, WRAPPINGS))}; give the part that is one")
    return {plain_name(str(key)): value for key, value in content.items()}


def _classes(name: str, weights: dict[str, Tensor]) -> dict[str, int]:
    """The number of classes of the last layer of `weights`, as an argument; empty without one."""
    for head in models.timm_parts.head_names(name):
        weight = weights.get(f"{head}.weight")
        if weight is not None and weight.ndim:
            return {"num_classes": weight.shape[0]}
    return {}


def _published_name(weights: dict[str, Tensor]) -> str:
    """The published LightViT whose global tokens have the shape of those of `weights`."""
    given = tuple(weights["global_token"].shape) if "global_token" in weights else None
    with torch.device("meta"):
        shapes = {name: tuple(models.create_model(name).global_token.shape)
                  for name in models.PUBLISHED}
    for name, shape in shapes.items():
        if shape == given:
            return name
    there = f"global_token of shape {given}" if given else f"no global_token, but {some(weights)}"
    raise LabError(f"import_official: the weights have {there}, and so are of none of "
                   f"{', '.join(shapes)}; name their model: import_official(source, name)")
