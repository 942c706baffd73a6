"""Models by name: the lab's own and every name of timm.

Importing this room also registers the lab's names with timm.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import LabError, number, require_choice, require_whole
from ..runtime import ensure_torchvision

ensure_torchvision()   # before timm: beside a CPU torch, `import timm` fails without it

import timm  # noqa: E402
from timm.models import register_model  # noqa: E402

from . import timm_parts  # noqa: E402
from .cnn import ResidualNetwork  # noqa: E402
from .compact_transformer import CompactTransformer  # noqa: E402
from .lightvit import LightViT  # noqa: E402
from .vision_transformer import VisionTransformer  # noqa: E402
from .weights import pretrained  # noqa: E402, F401

_BUILDERS: dict[str, partial] = {
    "lab_vit": partial(VisionTransformer, dim=64, depth=6, num_heads=4, stem_depth=2),
    "lab_vit_student": partial(VisionTransformer, dim=64, depth=4, num_heads=4),
    "lab_vit_teacher": partial(VisionTransformer, dim=96, depth=6, num_heads=4, stem_depth=2),
    "lab_cct": partial(CompactTransformer),
    # the shape of the paper's smallest; its blocks and dropout differ in detail
    "cct_2_3x2": partial(CompactTransformer, stem=0, residual=False, batch_norm=False, num_heads=2,
                         mlp_ratio=1.0, qkv_bias=False),
    "lab_cnn": partial(ResidualNetwork, widths=(32, 64, 128), blocks=1),
    "lab_lightvit": partial(LightViT, patch_size=4, embed_dims=(64, 96), num_layers=(3, 1),
                            num_heads=(4, 6), mlp_ratios=(4, 4), num_tokens=4, window_size=4,
                            neck_dim=256, num_classes=10),
    "lightvit_tiny": partial(LightViT, embed_dims=(64, 128, 256), num_heads=(2, 4, 8)),
    "lightvit_small": partial(LightViT, embed_dims=(96, 192, 384), num_heads=(3, 6, 12),
                              num_tokens=16),
    "lightvit_base": partial(LightViT, embed_dims=(128, 256, 512), num_layers=(3, 8, 6),
                             num_heads=(4, 8, 16), num_tokens=24),
}
# models whose weights have the names and shapes of their authors'
PUBLISHED = ("lightvit_tiny", "lightvit_small", "lightvit_base")
_TIMM_ONLY = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
_WHOLE = set("image_size img_size patch_size in_channels in_chans num_classes dim embed_dim depth "
             "depths num_heads stem stem_depth stem_stride widths blocks embed_dims num_layers "
             "num_tokens window_size neck_dim reg_tokens".split())
# arguments that say where weights come from, not what a model is
_WEIGHTS_ONLY = ("pretrained", "checkpoint_path", "cache_dir")
_found: set[str] = set()      # names of timm's lists, whose making takes longer than a small model


def names() -> tuple[str, ...]:
    """The lab's own names; `create_model` takes every name of timm besides."""
    return tuple(_BUILDERS)


@torch.inference_mode(False)      # weights made inside of it could never be trained
def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model by name, with fresh weights unless timm is asked for `pretrained=True`.

    Numbers may be of any type, NumPy's too. The model keeps its `recipe`, name and arguments, by
    which `checkpoint.load` builds it anew. Raises LabError on unknown names (the closest is
    suggested) and on keyword arguments that the model does not know.
    """
    if name not in _BUILDERS and name not in _found:
        known = [*_BUILDERS, *timm.list_models(), *timm.list_pretrained()]
        require_choice("create_model", "name", name, known)
        _found.add(name)
    kwargs = {key: _plain(key, value) for key, value in kwargs.items()}
    try:
        model = _build(name, **kwargs) if name in _BUILDERS else timm.create_model(name, **kwargs)
    except TypeError as error:
        raise LabError(f"create_model({name!r}): {error}; given: {sorted(kwargs)}") from error
    arguments = {key: value for key, value in kwargs.items() if key not in _WEIGHTS_ONLY}
    # lists that the caller may change later
    model.recipe = {"name": name, "arguments": copy.deepcopy(arguments)}
    return model


def _plain(argument: str, value: Any) -> Any:
    """Numbers of any type as Python's own, which a recipe can hold; counts as whole numbers."""
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(argument, one) for one in value)
    found = number(value)
    if argument in _WHOLE and (found is not None or isinstance(value, bool)):
        return require_whole("create_model", argument, value)
    return value if found is None else found


def _build(name: str, pretrained: bool = False, features_only: bool = False,
           out_indices: int | Sequence[int] | None = None, **kwargs: Any) -> nn.Module:
    """The lab's model; with `features_only` in timm's wrapper, for the maps of `out_indices`."""
    if pretrained:
        official = "; give the file that the authors publish to checkpoint.import_official"
        raise LabError(f"{name}: no weights are published through timm; build it with "
                       f"pretrained=False{official if name in PUBLISHED else ''}")
    model = _BUILDERS[name](**kwargs)
    if not features_only:
        return model
    if not hasattr(model, "forward_intermediates"):
        raise LabError(f"{name}: features_only=True needs a model of stages; give lightvit_tiny "
                       "or one of timm's, such as resnet18")
    return timm_parts.feature_maps(model, out_indices)


def _register(name: str) -> None:
    """Make `timm.create_model(name)` build the lab's model.

    timm asks for a function of that name in this module.
    """
    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        own = {key: value for key, value in kwargs.items() if key not in _TIMM_ONLY}
        return _build(name, pretrained, **own)

    build.__name__, build.__module__ = name, __name__
    globals()[name] = register_model(build)


for _name in _BUILDERS:
    _register(_name)
