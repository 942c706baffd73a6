"""The linear layers of a transformer's blocks, and a linear layer as a product of two thin ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import (LabError, number, plain_numbers, require_choice, require_multiple,
                      require_range)
from ..models.timm_parts import GIVE_VIT, AttentionParts, is_readable
from ..runtime.wrapped import require_unwrapped

# kv_global: of LightViT's global tokens, for the broadcast
KINDS = ("qkv", "kv_global", "proj", "fc1", "fc2")


@plain_numbers
class GroupedLinear(nn.Module):
    """(..., groups * rank) -> (..., out_features): each group makes an equal share of outputs."""

    def __init__(self, rank: int, out_features: int, groups: int, bias: bool = True):
        super().__init__()
        self.rank, self.out_features, self.groups = rank, out_features, groups
        self.weight = nn.Parameter(torch.empty(out_features, rank))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.uniform_(self.weight, -rank**-0.5, rank**-0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        by_group = self.weight.view(self.groups, -1, self.rank)
        split = hidden.reshape(-1, self.groups, self.rank).transpose(0, 1)
        outputs = (split @ by_group.mT).transpose(0, 1).reshape(*hidden.shape[:-1], -1)
        return outputs if self.bias is None else outputs + self.bias


@plain_numbers
class LowRankLinear(nn.Module):
    """Linear layer (..., in_features) -> (..., out_features) whose weight is up @ down.

    The weight has at most the rank `rank`. With `groups` the outputs fall into equal blocks, each
    with factors of its own of that rank. It costs rank * (groups * in_features + out_features)
    multiply-accumulates a token. `down` and `up` are layers of their own, so that what prunes or
    quantizes linear layers finds them. Raises LabError on a rank over full.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, groups: int = 1,
                 bias: bool = True):
        super().__init__()
        require_range("LowRankLinear", "groups", groups, 1)
        why = f"{groups} groups have equal shares"
        require_multiple("LowRankLinear", "out_features", out_features, groups, why)
        require_range("LowRankLinear", "in_features", in_features, 1)
        require_rank("LowRankLinear", rank, in_features, out_features // groups)
        self.in_features, self.out_features = in_features, out_features
        self.rank, self.groups = rank, groups
        self.down = nn.Linear(in_features, groups * rank, bias=False)
        self.up = (nn.Linear(rank, out_features, bias) if groups == 1
                   else GroupedLinear(rank, out_features, groups, bias))

    def product(self) -> Tensor:
        """(out_features, in_features) the weight that the factors stand for."""
        up = self.up.weight.view(self.groups, -1, self.rank)
        return (up @ self.down.weight.view(self.groups, self.rank, -1)).flatten(0, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.up(self.down(tokens))


def require_rank(caller: str, rank: object, in_features: int, out_features: int) -> None:
    """Raise LabError unless `rank` is a whole number from 1 to the full rank of such a matrix."""
    full, found = min(in_features, out_features), number(rank)
    if found is None or found % 1 or not 1 <= found <= full:
        even = break_even(out_features, in_features)
        raise LabError(f"{caller}: rank={rank!r}, of a matrix {out_features} x {in_features}; give "
                       f"a whole number 1 <= rank <= {full}, below {even:.0f} to save")


@plain_numbers
def break_even(m: int, n: int) -> float:
    """m n / (m + n): the rank at which two factors cost as much as the (m, n) matrix itself."""
    return m * n / (m + n)


def block_layers(caller: str, model: nn.Module,
                 wanted: str | Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Name -> layer, in order: of attention (qkv, kv_global, proj) and of MLPs (fc1, fc2).

    `wanted` are kinds (`KINDS`) or names of layers; None means all. Raises LabError, in the name of
    `caller`, on other names and on models that have none.
    """
    require_unwrapped(caller, model)
    layers = {}
    for name, parent in model.named_modules():
        for kind in _kinds(parent):
            layers[f"{name}.{kind}".lstrip(".")] = getattr(parent, kind)
    if not layers:
        kind = type(model).__name__
        raise LabError(f"{caller}: {kind} has no linear layers in attention or MLPs; {GIVE_VIT}")
    if wanted is None:
        return layers
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    kinds = {name: name.rpartition(".")[2] for name in layers}
    known = [*(kind for kind in KINDS if kind in kinds.values()), *layers]
    for name in wanted:
        require_choice(caller, "layers", name, known)
    if not wanted:
        raise LabError(f"{caller}: layers=() names none; give kinds {KINDS}, names, or None (all)")
    return {name: part for name, part in layers.items() if name in wanted or kinds[name] in wanted}


def _kinds(parent: nn.Module) -> list[str]:
    attends = is_readable(parent) or isinstance(parent, AttentionParts)
    kinds = KINDS[:3] if attends else KINDS[3:] if hasattr(parent, "fc2") else ()
    linear = nn.Linear | LowRankLinear
    return [kind for kind in kinds if isinstance(getattr(parent, kind, None), linear)]
