"""A linear layer as a product of two thin ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import LabError, number, plain_numbers, require_multiple, require_range


@plain_numbers
class GroupedLinear(nn.Module):
    """(..., groups * rank) -> (..., out_features): each group of inputs makes an equal share of
    outputs, in order.
    """

    def __init__(self, rank: int, out_features: int, groups: int, bias: bool = True):
        super().__init__()
        self.rank, self.out_features, self.groups = rank, out_features, groups
        self.weight = nn.Parameter(torch.empty(out_features, rank))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.uniform_(self.weight, -rank**-0.5, rank**-0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        by_group = self.weight.view(self.groups, -1, self.rank)
        split = hidden.reshape(-1, self.groups, self.rank).transpose(0, 1)
        outputs = (split @ by_group.mT).transpose(0, 1).reshape(*hidden.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias


@plain_numbers
class LowRankLinear(nn.Module):
    """Linear layer whose weight is up @ down, of at most `rank`: (..., in_features) -> (...,
    out_features).

    With `groups` the outputs fall into equal blocks, each with factors of its own of that rank. It
    costs rank * (groups * in_features + out_features) multiply-accumulates a token. `down` and `up`
    are layers of their own, so that whatever prunes or quantizes linear layers finds them. Raises
    LabError on a rank over full.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, groups: int = 1,
                 bias: bool = True):
        super().__init__()
        require_multiple("LowRankLinear", "out_features", out_features, groups, f"{groups} groups have equal shares")
        require_range("LowRankLinear", "in_features", in_features, 1)
        require_rank("LowRankLinear", rank, in_features, out_features // groups)
        self.in_features, self.out_features, self.rank, self.groups = in_features, out_features, rank, groups
        self.down = nn.Linear(in_features, groups * rank, bias=False)
        self.up = (nn.Linear(rank, out_features, bias) if groups == 1
                   else GroupedLinear(rank, out_features, groups, bias))

    def product(self) -> Tensor:
        """(out_features, in_features) the weight that the factors stand for."""
        up, down = self.up.weight.view(self.groups, -1, self.rank), self.down.weight.view(self.groups, self.rank, -1)
        return (up @ down).flatten(0, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.up(self.down(tokens))


def require_rank(caller: str, rank: object, in_features: int, out_features: int) -> None:
    """Raise LabError unless `rank` is a whole number from 1 to the full rank of such a matrix."""
    full = min(in_features, out_features)
    found = number(rank)
    if found is None or found % 1 or not 1 <= found <= full:
        raise LabError(f"{caller}: rank={rank!r}, where the matrix is {out_features} x {in_features}; give a whole "
                       f"number 1 <= rank <= {full}, below {break_even(out_features, in_features):.0f} to save")


@plain_numbers
def break_even(m: int, n: int) -> float:
    """m n / (m + n): the rank from which two factors of an (m, n) matrix cost as much as the matrix
    itself.
    """
    return m * n / (m + n)
