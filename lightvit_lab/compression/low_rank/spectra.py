"""Singular values of linear layers, of the weight or of what it makes of its inputs, and ranks
chosen by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers
from ...runtime.running import double
from ..calibrating import Moments
from ..low_rank_linear import break_even

# share of the mean variance added to all: directions that no input took count a little
RIDGE = 1e-6


@dataclass(frozen=True)
class Spectrum:
    """A layer's weight (groups, m, n), and singular vectors `left` (groups, m, k) and values
    (groups, k), in float64.

    `mean` (n,) of the inputs is None where the weight alone was looked at, or the layer has no bias
    to correct.
    """

    weight: Tensor
    left: Tensor
    values: Tensor
    bias: Tensor | None
    mean: Tensor | None

    @property
    def groups(self) -> int:
        """How many blocks of outputs have factors of their own."""
        return len(self.weight)

    @property
    def in_features(self) -> int:
        """n"""
        return self.weight.shape[2]

    @property
    def out_features(self) -> int:
        """groups * m"""
        return self.groups * self.weight.shape[1]

    @property
    def cost(self) -> int:
        """Parameters of each unit of rank."""
        return self.groups * self.in_features + self.out_features

    def energies(self) -> Tensor:
        """(k,) share of the squared singular values that each unit of rank brings, falling; the sum
        is 1.
        """
        squares = self.values.square().sum(dim=0)
        return squares / squares.sum().clamp(min=torch.finfo(torch.float64).tiny)

    def factors(self, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """down (groups * rank, n), up (groups * m, rank), bias: the best of that rank, both factors
        equally long.

        Equal lengths are what fine-tuning wants: one learning rate has to suit both.
        """
        up = self.left[..., :rank]
        down = up.mT @ self.weight
        length = down.norm(dim=-1, keepdim=True).sqrt().clamp(min=1e-12)         # (groups, rank, 1)
        bias = self.bias
        if self.mean is not None:
            bias = bias + ((self.weight - up @ down) @ self.mean).flatten()
        return (down / length).flatten(0, 1), (up * length.mT).flatten(0, 1), bias


@plain_numbers
@torch.no_grad()
def spectrum(layer: nn.Linear, groups: int = 1, moments: Moments | None = None) -> Spectrum:
    """Singular values of a layer's weight, or with `moments` of the weight times a root of the
    inputs' covariance.
    """
    weight = double(layer.weight).unflatten(0, (groups, -1))
    bias = None if layer.bias is None else double(layer.bias)
    mean, spread = None, torch.eye(weight.shape[2], dtype=weight.dtype, device=weight.device)
    if moments is not None:
        mean = None if bias is None else moments.mean.to(weight.device)
        of_inputs = (moments.second_moment if bias is None else moments.covariance).to(weight.device)
        spread = of_inputs + RIDGE * of_inputs.diagonal().mean().clamp(min=1e-12) * spread
    left, values = _left_singular(weight, spread)
    return Spectrum(weight, left, values, bias, mean)


def _left_singular(weight: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (g, m, k) and values (g, k), falling, of W S for W (g, m, n) and
    `spread` = S S^T (n, n).

    They are eigenvectors of W S S^T W^T: no root is needed, and no harm done where rounding left
    `spread` a little below 0. Of a tall W the triangle of its QR decomposition is looked at, which
    is smaller.
    """
    tall = weight.shape[1] > weight.shape[2]
    basis, inner = torch.linalg.qr(weight) if tall else (None, weight)
    squares, vectors = torch.linalg.eigh(inner @ spread @ inner.mT)
    left = (basis @ vectors if tall else vectors).flip(-1)
    return left, squares.clamp(min=0).sqrt().flip(-1)


def worthwhile(found: Spectrum) -> int:
    """The largest rank that saves parameters; 0 where none does."""
    even = break_even(found.out_features // found.groups, found.in_features)
    return int(even) if even > int(even) else int(even) - 1


@plain_numbers
def ranks_by_energy(spectra: Mapping[str, Spectrum], energy: float) -> dict[str, int]:
    """For each layer the least rank that keeps the share `energy` of its squared singular values."""
    found = {}
    for name, one in spectra.items():
        reached = one.energies().cumsum(0) >= energy * (1 - 1e-12)
        found[name] = int(reached.to(torch.int).argmax()) + 1 if reached.any() else len(reached)
    return found


@plain_numbers
def ranks_by_budget(spectra: Mapping[str, Spectrum], budget: float) -> dict[str, int]:
    """For each layer a rank, full rank where it stays whole, so that the share `budget` of all
    parameters is left.

    Units of rank of all layers are taken in the order of the energy that they bring for a
    parameter. Each layer has at least one. Raises LabError where the budget does not even pay
    these.
    """
    whole = sum(one.weight.numel() for one in spectra.values())
    left = int(budget * whole) - sum(one.cost for one in spectra.values())
    if left < 0:
        least = (int(budget * whole) - left) / whole
        raise LabError(f"factorize: budget={budget} is spent before every layer has rank 1; give budget >= {least:.3f}")
    ranks = dict.fromkeys(spectra, 1)
    for _, name, rank, cost in sorted(_offers(spectra), key=lambda offer: (-offer[0], *offer[1:])):
        if cost <= left and rank == ranks[name] + 1:
            ranks[name], left = rank, left - cost
    return ranks


def _offers(spectra: Mapping[str, Spectrum]) -> list[tuple[float, str, int, int]]:
    """(energy for a parameter, layer, rank, parameters) of each unit of rank but the first; the
    last makes it whole.

    What making it whole brings counts as no more than the unit before, so that a layer's offers
    come in order.
    """
    offers = []
    for name, one in spectra.items():
        prices, last = one.energies() / one.cost, worthwhile(one)
        offers += [(prices[rank - 1].item(), name, rank, one.cost) for rank in range(2, last + 1)]
        rest = one.weight.numel() - max(last, 1) * one.cost
        offers.append((prices[max(last, 1) - 1].item(), name, max(last, 1) + 1, max(rest, 0)))
    return offers
