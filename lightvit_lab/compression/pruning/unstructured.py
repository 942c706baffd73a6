"""Zeros in linear layers, as `chapters/compression/pruning` derives them: fewer weights count, no
model is smaller.

Magnitude (Han et al., arXiv 1506.02626) takes the smallest weights. Wanda (Sun et al., arXiv
2306.11695) takes, in each row, those with the smallest |weight| * |input|. The pattern 2:4 (Mishra
et al., arXiv 2104.08378) leaves two of every four inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ...errors import LabError, number, plain_numbers, require_choice
from ...models.transforming import Plan, transform, transformed
from ..calibrating import Calibration, input_moments, require_calibration
from ..linear_layers import block_layers
from ..low_rank_linear import GroupedLinear, LowRankLinear

IMPORTANCES = ("magnitude", "wanda", "random")
PATTERNS = {"2:4": (2, 4)}       # zeros, and of how many that stand beside each other
BUDGETS = ("layer", "global")


@plain_numbers
def prune_weights(model: nn.Module, ratio: float | Mapping[str, float],
                  importance: str = "magnitude", calibration: Calibration | None = None, *,
                  pattern: str | None = None, budget: str = "layer", seed: int = 0) -> nn.Module:
    """A copy of `model` in whose blocks the share `ratio` of the linear layers' weights is zero;
    shapes stay.

    `ratio` is one number, or one for each layer's name; zeros that are there already count.
    `importance` is "magnitude", "wanda", which needs `calibration` (normalised pictures), or
    "random". `pattern="2:4"` makes two zeros of every four inputs (ratio=0.5). `budget="global"`
    takes the smallest of all layers together, not of each. Raises LabError on ratios below what is
    zero already, or that leave no weight.
    """
    require_choice("prune_weights", "importance", importance, IMPORTANCES)
    require_choice("prune_weights", "budget", budget, BUDGETS)
    layers = weighted_layers("prune_weights", model)
    ratios = _ratios(layers, ratio)
    _require_together(ratio, importance, pattern, budget)
    scores = _scores(model, layers, importance, calibration, seed)
    if budget == "global":
        masks = _global_masks(layers, scores, ratio)
    else:
        masks = {name: _mask(name, layer.weight, scores[name], ratios[name], pattern, importance == "wanda")
                 for name, layer in layers.items()}
    plan = {"transform": "prune_weights", "importance": importance, "ratio": _plain(ratio),
            "pattern": pattern, "budget": budget}
    sparse = transformed(model, plan, apply_sparsity)
    with torch.no_grad():
        for name, mask in masks.items():
            sparse.get_submodule(name).weight.mul_(mask)
    return sparse


@transform("prune_weights")
def apply_sparsity(model: nn.Module, plan: Plan) -> nn.Module:
    """Nothing but a check that `model` has layers for zeros: which weights are zero, the weights
    themselves say.
    """
    block_layers("apply_sparsity", model)
    return model


def sparsity(model: nn.Module) -> dict[str, float]:
    """Name -> share of zeros of each linear layer in the blocks."""
    return {name: share_of_zeros(layer.weight)
            for name, layer in weighted_layers("sparsity", model).items()}


def share_of_zeros(weight: Tensor) -> float:
    """Which share of the numbers in `weight` is zero."""
    return int((weight == 0).sum()) / weight.numel()


@contextmanager
def keep_zeros(model: nn.Module) -> Iterator[nn.Module]:
    """While this lasts, the zeros of the blocks' linear layers stay zero, whatever optimizer trains
    `model`.

    Gradients of zeros are taken out, and after each step of any optimizer the zeros are set again:
    momentum and methods that mix the entries of a matrix, such as Muon, would move them. The model
    itself has no part added.
    """
    layers = list(weighted_layers("keep_zeros", model).values())
    masks = [_Mask(layer.weight) for layer in layers]

    def reset(*_: Any) -> None:
        with torch.no_grad():
            for layer, mask in zip(layers, masks):
                layer.weight.copy_(mask.apply(layer.weight))

    with ExitStack() as stack:
        stack.callback(register_optimizer_step_post_hook(reset).remove)
        for layer, mask in zip(layers, masks):
            if layer.weight.requires_grad:
                stack.callback(layer.weight.register_hook(mask.apply).remove)
        yield model


class _Mask:
    """Where a weight is not zero; it follows the weight to another device, once."""

    def __init__(self, weight: Tensor):
        self.value = weight.detach() != 0

    def apply(self, values: Tensor) -> Tensor:
        """`values`, with zeros where the weight had them."""
        self.value = self.value.to(values.device)
        return values * self.value


def weighted_layers(caller: str, model: nn.Module) -> dict[str, nn.Linear | GroupedLinear]:
    """Name -> linear layer in the blocks of `model`, of a factorized one both factors. Raises
    LabError without any.
    """
    found = {}
    for name, layer in block_layers(caller, model).items():
        factorized = isinstance(layer, LowRankLinear)
        found.update({f"{name}.down": layer.down, f"{name}.up": layer.up} if factorized else {name: layer})
    return found


@torch.no_grad()
def _scores(model: nn.Module, layers: Mapping[str, nn.Module], importance: str,
            calibration: Calibration | None, seed: int) -> dict[str, Tensor]:
    """How much each weight counts, (m, n). Zeros count least, whatever the importance."""
    if importance == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device) * (layer.weight != 0)
                for name, layer in layers.items()}
    scores = {name: layer.weight.abs() for name, layer in layers.items()}
    if importance == "wanda":
        inputs, _ = require_calibration('prune_weights, importance="wanda"', calibration)
        moments = input_moments(model, inputs, layers)
        for name, layer in layers.items():
            norms = moments[name].second_moment.diagonal().sqrt().to(layer.weight)
            scores[name] = scores[name] * _columns(layer, norms)
    return scores


def _columns(layer: nn.Module, norms: Tensor) -> Tensor:
    """(n,) norms of inputs -> what the columns of the weight meet: of a layer in groups, each group
    its own inputs.
    """
    if isinstance(layer, GroupedLinear):
        return norms.view(layer.groups, layer.rank).repeat_interleave(layer.out_features // layer.groups, dim=0)
    return norms


def _mask(name: str, weight: Tensor, scores: Tensor, ratio: float, pattern: str | None,
          by_row: bool) -> Tensor:
    """True where a weight stays: the best of the whole layer, of each row, or of each four."""
    if pattern:
        zeros, among = PATTERNS[pattern]
        if weight.shape[1] % among:
            raise LabError(f"prune_weights: {name} has {weight.shape[1]} inputs, no multiple of {among}; without "
                           f'pattern="{pattern}" its weights can be pruned')
        return _keep_best(scores.unflatten(1, (-1, among)), zeros).flatten(1)
    _require_more(name, weight, ratio)
    units = scores if by_row else scores.flatten()
    return _keep_best(units, _count(ratio, units.shape[-1], name)).view_as(weight)


def _global_masks(layers: Mapping[str, nn.Module], scores: Mapping[str, Tensor],
                  ratio: float) -> dict[str, Tensor]:
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers.values()])
    _require_more("the model", weights, ratio)
    together = torch.cat([one.flatten() for one in scores.values()])
    kept = _keep_best(together, _count(ratio, len(together), "the model"))
    parts = kept.split([layer.weight.numel() for layer in layers.values()])
    return {name: part.view_as(layers[name].weight) for name, part in zip(layers, parts)}


def _keep_best(scores: Tensor, zeros: int) -> Tensor:
    """(..., n) scores -> True for all but the `zeros` smallest of the last axis."""
    worst = scores.argsort(dim=-1, stable=True)[..., :zeros]
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, worst, False)


def _count(ratio: float, among: int, name: str) -> int:
    zeros = round(ratio * among)
    if zeros >= among:
        raise LabError(f"prune_weights: ratio={ratio} leaves none of {among} weights in {name}; give ratio <= "
                       f"{(among - 1) / among:.3g}")
    return zeros


def _require_more(name: str, weight: Tensor, ratio: float) -> None:
    share = share_of_zeros(weight)
    if round(share * weight.numel()) > round(ratio * weight.numel()):
        raise LabError(f"prune_weights: ratio={ratio}, where {share:.1%} of {name} are zero already, and zeros that "
                       f"are there count; give a ratio over {share:.3g}, or prune the model this one was made from")


def _ratios(layers: Mapping[str, nn.Module],
            ratio: float | Mapping[str, float]) -> dict[str, float]:
    """One ratio for each layer; layers that a mapping does not name keep what they have."""
    if isinstance(ratio, Mapping):
        for name in ratio:
            require_choice("prune_weights", "ratio's layer", name, layers)
        return {name: _require_ratio(ratio[name]) if name in ratio else share_of_zeros(layer.weight)
                for name, layer in layers.items()}
    return dict.fromkeys(layers, _require_ratio(ratio))


def _require_ratio(ratio: Any) -> float:
    found = number(ratio)
    if found is None or not 0 <= found < 1:
        raise LabError(f"prune_weights: ratio={ratio!r}; give the share of weights to make zero, 0 <= ratio < 1")
    return found


def _require_together(ratio: Any, importance: str, pattern: str | None, budget: str) -> None:
    require_choice("prune_weights", "pattern", pattern, [None, *PATTERNS])
    if pattern and ratio != 0.5:
        raise LabError(f'prune_weights: pattern="{pattern}" makes half of the weights zero, not {ratio}; give 0.5')
    if budget == "global" and (pattern or importance == "wanda" or isinstance(ratio, Mapping)):
        chosen = (f'pattern="{pattern}"' if pattern else
                  'importance="wanda"' if importance == "wanda" else "ratios by layer")
        raise LabError(f'prune_weights: {chosen} compares weights inside a layer; give budget="layer"')


def _plain(ratio: float | Mapping[str, float]) -> float | dict[str, float]:
    return dict(ratio) if isinstance(ratio, Mapping) else ratio
