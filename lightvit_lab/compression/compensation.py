"""Closed-form compensation: what was removed is predicted from what is kept, and the prediction goes into the weights.

A layer y = W x + b lost the inputs x_R. Ridge regression on a few pictures finds the A for which x_R is close to
A (x_S - mean) + mean, and W_R A is added to the columns W_S that are left. Derived in chapters/compression/pruning.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .calibrating import Moments, input_moments

LEAST = 1e-12      # of the inputs' mean square: neurons that never fire, or fire alike, leave a singular matrix


def prediction(moments: Moments, kept: Tensor, removed: Tensor, ridge: float, centred: bool = True) -> Tensor:
    """A (removed, kept), float64: the ridge regression of inputs `removed` on inputs `kept`.

    `ridge` is a share of the mean variance of what is kept, so that it means the same in every layer. Where the layer
    has no bias to take up the means, `centred=False` regresses the values themselves.
    """
    products = moments.covariance if centred else moments.second_moment
    among, across = products[kept][:, kept], products[removed][:, kept]
    weight = ridge * among.diagonal().mean() + LEAST * moments.second_moment.diagonal().mean() + 1e-30
    return torch.linalg.solve(among + weight * torch.eye(len(kept), dtype=among.dtype, device=among.device), across.T).T


@torch.no_grad()
def refit(model: nn.Module, columns: Mapping[str, Tensor], inputs: Tensor, ridge: float) -> nn.Module:
    """Refit, in place, the linear layers named in `columns` as if they had no other inputs; returns `model`.

    The other columns stay for `apply_pruning` to take out. `inputs` (B, C, H, W) are the calibration pictures; all
    statistics are those of the whole model.
    """
    layers = {name: model.get_submodule(name) for name in columns}
    moments = input_moments(model, inputs, layers)
    for name, kept in columns.items():
        kept = kept.to(moments[name].total.device)
        removed = torch.ones(layers[name].in_features, device=kept.device).index_fill(0, kept, 0).nonzero().flatten()
        if len(removed):
            _correct(layers[name], moments[name], kept, removed, ridge)
    return model


def _correct(layer: nn.Linear, moments: Moments, kept: Tensor, removed: Tensor, ridge: float) -> None:
    """Add to the columns `kept` what the columns `removed` did, as far as it can be told from what is kept."""
    by_kept = prediction(moments, kept, removed, ridge, centred=layer.bias is not None)
    lost = layer.weight[:, removed].double()
    layer.weight[:, kept] += (lost @ by_kept).to(layer.weight)
    if layer.bias is not None:
        layer.bias += (lost @ (moments.mean[removed] - by_kept @ moments.mean[kept])).to(layer.bias)
