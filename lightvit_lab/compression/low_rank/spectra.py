"""Singular values of linear layers, of the weight or of its product with inputs; ranks by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers
from ...runtime.running import double
from ..calibrating import Moments
from ..linear_layers import break_even

# added to all variances, a share of their mean: directions that no input took count a little
RIDGE = 1e-6


@dataclass(frozen=True)
class Spectrum:
    """A layer's weight (groups, m, n), with singular vectors and values, in float64.

    `left` is (groups, m, k), `values` (groups, k). `mean` (n,) of the inputs is None where the
    weight alone was decomposed, or the layer has no bias to correct.
    """

    weight: Tensor
    left: Tensor
    values: Tensor
    bias: Tensor | None
    mean: Tensor | None

    @property
    def cost(self) -> int:
        """Parameters of each unit of rank: groups * (n + m)."""
        groups, rows, columns = self.weight.shape
        return groups * (rows + columns)

    def energies(self) -> Tensor:
        """(k,) share of the squared singular values of each unit of rank, falling; sum 1."""
        squares = self.values.square().sum(dim=0)
        return squares / squares.sum().clamp(min=torch.finfo(torch.float64).tiny)

    def factors(self, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """down (groups * rank, n), up (groups * m, rank), bias: the best factors of that rank.

        Both are equally long, which is what fine-tuning wants: one learning rate has to suit both.
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
    """Singular values of a layer's weight, or with `moments` of what it makes of its inputs.

    That is of the weight times a root of the inputs' covariance.
    """
    weight = double(layer.weight).unflatten(0, (groups, -1))
    bias = None if layer.bias is None else double(layer.bias)
    mean, spread = None, torch.eye(weight.shape[2], dtype=weight.dtype, device=weight.device)
    if moments is not None:
        mean = None if bias is None else moments.mean.to(weight.device)
        of_inputs = moments.second_moment if bias is None else moments.covariance
        of_inputs = of_inputs.to(weight.device)
        spread = of_inputs + RIDGE * of_inputs.diagonal().mean().clamp(min=1e-12) * spread
    left, values = _left_singular(weight, spread)
    return Spectrum(weight, left, values, bias, mean)


def _left_singular(weight: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (g, m, k) and values (g, k), falling, of W S.

    For W (g, m, n) and `spread` = S S^T (n, n) they are eigenvectors of W S S^T W^T: no root is
    needed, and no harm done where rounding left `spread` a little below 0. Of a tall W the triangle
    of its QR decomposition is taken, which is smaller.
    """
    tall = weight.shape[1] > weight.shape[2]
    basis, inner = torch.linalg.qr(weight) if tall else (None, weight)
    squares, vectors = torch.linalg.eigh(inner @ spread @ inner.mT)
    left = (basis @ vectors if tall else vectors).flip(-1)
    return left, squares.clamp(min=0).sqrt().flip(-1)


def worthwhile(one: Spectrum) -> int:
    """The largest rank that saves parameters; 0 where none does."""
    return math.ceil(break_even(*one.weight.shape[1:])) - 1


@plain_numbers
def ranks_by_energy(spectra: Mapping[str, Spectrum], energy: float) -> dict[str, int]:
    """For each layer the least rank with the share `energy` of its squared singular values."""
    ranks = {}
    for name, one in spectra.items():
        below = one.energies().cumsum(0) < energy * (1 - 1e-12)
        ranks[name] = min(int(below.sum()) + 1, len(below))
    return ranks


@plain_numbers
def ranks_by_budget(spectra: Mapping[str, Spectrum], budget: float) -> dict[str, int]:
    """For each layer a rank, so that the share `budget` of all parameters is left.

    Full rank leaves a layer whole. Units of rank of all layers are taken in the order of the energy
    that they bring for a parameter. Each layer has at least one. Raises LabError where the budget
    does not even pay these.
    """
    whole = sum(one.weight.numel() for one in spectra.values())
    left = int(budget * whole) - sum(one.cost for one in spectra.values())
    if left < 0:
        least = (int(budget * whole) - left) / whole
        raise LabError(f"factorize: budget={budget} is spent before every layer has rank 1; give "
                       f"budget >= {least:.3f}")
    ranks = dict.fromkeys(spectra, 1)
    for _, name, rank, cost in sorted(_offers(spectra)):
        if cost <= left and rank == ranks[name] + 1:
            ranks[name], left = rank, left - cost
    return ranks


def _offers(spectra: Mapping[str, Spectrum]) -> list[tuple[float, str, int, int]]:
    """(-energy for a parameter, layer, rank, parameters) of each unit of rank but the first.

    The last makes the layer whole. What that brings counts as no more than the unit before, so that
    a layer's offers come in order.
    """
    offers = []
    for name, one in spectra.items():
        prices, last = -one.energies() / one.cost, max(worthwhile(one), 1)
        offers += [(prices[rank - 1].item(), name, rank, one.cost) for rank in range(2, last + 1)]
        rest = one.weight.numel() - last * one.cost
        offers.append((prices[last - 1].item(), name, last + 1, max(rest, 0)))
    return offers
