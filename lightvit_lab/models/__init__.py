"""Models by name: the lab's own and every name of timm. Importing this room also registers the lab's names with timm."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ..errors import LabError, require_choice
from ..runtime import ensure_torchvision

ensure_torchvision()   # before timm: beside a CPU torch, `import timm` fails without it

import timm  # noqa: E402
from timm.models import register_model  # noqa: E402

from .cnn import ResidualNetwork  # noqa: E402
from .compact_transformer import CompactTransformer  # noqa: E402
from .vision_transformer import VisionTransformer  # noqa: E402

_BUILDERS: dict[str, partial] = {
    "lab_vit": partial(VisionTransformer, dim=64, depth=6, num_heads=4, stem_depth=2),
    "lab_vit_student": partial(VisionTransformer, dim=64, depth=4, num_heads=4),
    "lab_cct": partial(CompactTransformer),
    "cct_2_3x2": partial(CompactTransformer, stem=0, residual=False, batch_norm=False, num_heads=2, mlp_ratio=1.0,
                         qkv_bias=False),   # the shape of the paper's smallest; its blocks and dropout differ in detail
    "lab_cnn": partial(ResidualNetwork, widths=(32, 64, 128), blocks=1),
}
_TIMM_ONLY = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def names() -> tuple[str, ...]:
    """The lab's own names; `create_model` takes every name of timm besides."""
    return tuple(_BUILDERS)


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model by name, with fresh weights unless timm is asked for `pretrained=True`.

    Raises LabError on unknown names (the closest is suggested) and on keyword arguments that the model does not know.
    """
    if name not in _BUILDERS:
        require_choice("create_model", "name", name, [*_BUILDERS, *timm.list_models(), *timm.list_pretrained()])
    try:
        return _BUILDERS[name](**kwargs) if name in _BUILDERS else timm.create_model(name, **kwargs)
    except TypeError as error:
        raise LabError(f"create_model({name!r}): {error}; given were {sorted(kwargs)}") from error


def _register(name: str) -> None:
    """Make `timm.create_model(name)` build the lab's model; timm asks for a function of that name in this module."""
    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            raise LabError(f"{name}: no weights are published through timm; build it with pretrained=False")
        return _BUILDERS[name](**{key: value for key, value in kwargs.items() if key not in _TIMM_ONLY})

    build.__name__, build.__module__ = name, __name__
    globals()[name] = register_model(build)


for _name in _BUILDERS:
    _register(_name)
