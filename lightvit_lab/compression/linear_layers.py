"""The linear layers of a transformer's blocks: what low-rank factors and zeros are for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import LabError, require_choice
from ..models.timm_parts import AttentionParts, is_readable
from ..runtime.wrapped import require_unwrapped
from .low_rank_linear import LowRankLinear

# kv_global: what LightViT's global tokens hand back
KINDS = ("qkv", "kv_global", "proj", "fc1", "fc2")


def block_layers(caller: str, model: nn.Module,
                 wanted: str | Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Name -> layer, in order: of attention (qkv, kv_global, proj) and of MLPs (fc1, fc2), all or
    the `wanted` ones.

    `wanted` are kinds (`KINDS`), or names of layers. Raises LabError, in the name of `caller`, on
    other names and on models that have none.
    """
    require_unwrapped(caller, model)
    found = {f"{name}.{kind}" if name else kind: getattr(parent, kind) for name, parent in model.named_modules()
             for kind in _kinds(parent)}
    if not found:
        raise LabError(f"{caller}: {type(model).__name__} has no linear layers in attention or MLPs that are known; "
                       'give the lab\'s transformers, or timm\'s ViT or DeiT, as models.create_model("lab_vit")')
    if wanted is None:
        return found
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    kinds = {name.rpartition(".")[2] for name in found}
    for name in wanted:
        require_choice(caller, "layers", name, [*(kind for kind in KINDS if kind in kinds), *found])
    chosen = {name: layer for name, layer in found.items() if name in wanted or name.rpartition(".")[2] in wanted}
    if not chosen:
        raise LabError(f"{caller}: layers=() names none; give kinds ({', '.join(KINDS)}) or names, or None for all")
    return chosen


def _kinds(parent: nn.Module) -> list[str]:
    attends = is_readable(parent) or isinstance(parent, AttentionParts)
    kinds = KINDS[:3] if attends else KINDS[3:] if hasattr(parent, "fc2") else ()
    return [kind for kind in kinds if isinstance(getattr(parent, kind, None), nn.Linear | LowRankLinear)]
