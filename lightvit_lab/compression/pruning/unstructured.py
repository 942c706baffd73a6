"""Zeros in linear layers: fewer weights count, no model is smaller.

As `chapters/compression/pruning` derives them. Magnitude (Han et al., arXiv 1506.02626) takes the
smallest weights. Wanda (Sun et al., arXiv 2306.11695) takes, in each row, those with the smallest
|weight| * |input|, block by block: the inputs are those behind the blocks pruned before. The
pattern 2:4 (Mishra et al., arXiv 2104.08378) leaves two of every four inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ...errors import LabError, number, plain_numbers, require_choice
from ...models.transforming import Plan, transform, transformed
from ..calibrating import Calibration, Moments, input_moments, require_calibration
from ..linear_layers import GroupedLinear, LowRankLinear, block_layers

IMPORTANCES = ("magnitude", "wanda", "random")
PATTERNS = {"2:4": (2, 4)}       # zeros, and of how many neighbours
BUDGETS = ("layer", "global")


@plain_numbers
def prune_weights(model: nn.Module, ratio: float | Mapping[str, float],
                  importance: str = "magnitude", calibration: Calibration | None = None, *,
                  pattern: str | None = None, budget: str = "layer", seed: int = 0) -> nn.Module:
    """A copy of `model` with zeros: the share `ratio` of the weights of its blocks' linear layers.

    Shapes stay. `ratio` is one number, or one for each layer's name; zeros that are there already
    count. `importance` is "magnitude", "wanda", which needs `calibration` (normalised pictures) and
    runs them once for each block, or "random". `pattern="2:4"` makes two zeros of every four inputs
    (ratio=0.5). `budget="global"` takes the smallest of all layers together, not of each. Raises
    LabError on ratios below what is zero already, or that leave no weight.
    """
    ratios = _ratios(weighted_layers("prune_weights", model), ratio)
    _require_together(ratio, importance, pattern, budget)
    shares = dict(ratio) if isinstance(ratio, Mapping) else ratio
    plan = {"transform": "prune_weights", "importance": importance, "ratio": shares,
            "pattern": pattern, "budget": budget}
    sparse = transformed(model, plan, apply_sparsity)
    layers = weighted_layers("prune_weights", sparse)
    if importance == "wanda":
        inputs, _ = require_calibration('prune_weights, importance="wanda"', calibration)
        _prune_by_wanda(sparse, layers, inputs, ratios, pattern)
        return sparse
    scores = _scores(layers, importance, seed)
    if budget == "global":
        _make_zeros(layers, _global_masks(layers, scores, ratio))
    else:
        _make_zeros(layers, {name: _mask(name, layer.weight, scores[name], ratios[name], pattern)
                             for name, layer in layers.items()})
    return sparse


@transform("prune_weights")
def apply_sparsity(model: nn.Module, plan: Plan) -> nn.Module:
    """Check that `model` has layers for zeros; which weights are zero is stored in the weights."""
    block_layers("apply_sparsity", model)
    return model


def sparsity(model: nn.Module) -> dict[str, float]:
    """Name -> share of zeros of each linear layer in the blocks."""
    layers = weighted_layers("sparsity", model)
    return {name: share_of_zeros(layer.weight) for name, layer in layers.items()}


def share_of_zeros(weight: Tensor) -> float:
    """Which share of the numbers in `weight` is zero."""
    return int((weight == 0).sum()) / weight.numel()


@contextmanager
def keep_zeros(model: nn.Module) -> Iterator[nn.Module]:
    """A context in which zeros in the blocks' linear layers stay zero while `model` trains.

    Gradients of zeros are taken out, and after each step of any optimizer the zeros are set again:
    momentum and methods that mix the entries of a matrix, such as Muon, would move them. The model
    itself has no part added.
    """
    layers = weighted_layers("keep_zeros", model).values()
    masks = {layer: _Mask(layer.weight) for layer in layers}

    def reset(*_: Any) -> None:
        with torch.no_grad():
            for layer, mask in masks.items():
                layer.weight.copy_(mask.apply(layer.weight))

    with ExitStack() as stack:
        stack.callback(register_optimizer_step_post_hook(reset).remove)
        for layer, mask in masks.items():
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
    """Name -> linear layer in the blocks of `model`, of a factorized one both factors.

    Raises LabError without any.
    """
    layers = {}
    for name, layer in block_layers(caller, model).items():
        if isinstance(layer, LowRankLinear):
            layers |= {f"{name}.down": layer.down, f"{name}.up": layer.up}
        else:
            layers[name] = layer
    return layers


@torch.no_grad()
def _scores(layers: Mapping[str, nn.Module], importance: str, seed: int) -> dict[str, Tensor]:
    """How much each weight counts, (m, n). Zeros count least, whatever the importance."""
    scores = {name: layer.weight.abs() for name, layer in layers.items()}
    if importance == "random":
        generator = torch.Generator().manual_seed(seed)
        for name, weight in scores.items():
            drawn = torch.rand(weight.shape, generator=generator)
            scores[name] = drawn.to(weight.device) * (weight != 0)
    return scores


@torch.no_grad()
def _make_zeros(layers: Mapping[str, nn.Module], masks: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        layers[name].weight.mul_(mask)


@torch.no_grad()
def _prune_by_wanda(model: nn.Module, layers: Mapping[str, nn.Module], inputs: Tensor,
                    ratios: Mapping[str, float], pattern: str | None) -> None:
    """Make zeros in `model`, in place, a block at a time.

    The layers of a block are judged together, by what they are given behind the blocks before it,
    which have their zeros already.
    """
    for names in _by_block(model, layers):
        block, masks = {name: layers[name] for name in names}, {}
        for name, moments in input_moments(model, inputs, block).items():
            scores = block[name].weight.abs() * _norms(block[name], moments)
            masks[name] = _mask(name, block[name].weight, scores, ratios[name], pattern, True)
        _make_zeros(block, masks)


def _by_block(model: nn.Module, names: Iterable[str]) -> list[list[str]]:
    """`names` of layers in lists, one for each block of attention and MLP, in their order."""
    blocks = [name for name, part in model.named_modules()
              if hasattr(part, "attn") and hasattr(part, "mlp")]
    groups: dict[str, list[str]] = {}
    for name in names:
        block = next((one for one in blocks if name.startswith(f"{one}.")), name)
        groups.setdefault(block, []).append(name)
    return list(groups.values())


def _norms(layer: nn.Module, moments: Moments) -> Tensor:
    """Root mean square of each input, (n,); of a GroupedLinear (m, n), each group has its own."""
    norms = moments.second_moment.diagonal().sqrt().to(layer.weight)
    if isinstance(layer, GroupedLinear):
        share = layer.out_features // layer.groups
        norms = norms.view(layer.groups, layer.rank).repeat_interleave(share, dim=0)
    return norms


def _mask(name: str, weight: Tensor, scores: Tensor, ratio: float, pattern: str | None,
          by_row: bool = False) -> Tensor:
    """True where a weight stays: the best of each four, of each row, or of the whole layer."""
    if pattern:
        zeros, among = PATTERNS[pattern]
        if weight.shape[1] % among:
            raise LabError(f"prune_weights: {name} has {weight.shape[1]} inputs, no multiple of "
                           f"{among}; give pattern=None")
        return _keep_best(scores.unflatten(1, (-1, among)), zeros).flatten(1)
    units = scores if by_row else scores.flatten()
    return _keep_best(units, _count(name, weight, ratio, units.shape[-1])).view_as(weight)


def _global_masks(layers: Mapping[str, nn.Module], scores: Mapping[str, Tensor],
                  ratio: float) -> dict[str, Tensor]:
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers.values()])
    together = torch.cat([one.flatten() for one in scores.values()])
    kept = _keep_best(together, _count("the model", weights, ratio, len(together)))
    parts = kept.split([layer.weight.numel() for layer in layers.values()])
    return {name: part.view_as(layers[name].weight) for name, part in zip(layers, parts)}


def _keep_best(scores: Tensor, zeros: int) -> Tensor:
    """(..., n) scores -> True for all but the `zeros` smallest of the last axis."""
    worst = scores.argsort(dim=-1, stable=True)[..., :zeros]
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, worst, False)


def _count(name: str, weight: Tensor, ratio: float, among: int) -> int:
    """How many of each `among` weights become zero."""
    share, zeros = share_of_zeros(weight), round(ratio * among)
    if round(share * weight.numel()) > round(ratio * weight.numel()):
        raise LabError(f"prune_weights: ratio={ratio}, but {share:.1%} of {name} are zero already "
                       f"and count; give a ratio over {share:.3g}, or prune the model before")
    if zeros >= among:
        raise LabError(f"prune_weights: ratio={ratio} leaves none of {among} weights in {name}; "
                       f"give ratio <= {(among - 1) / among:.3g}")
    return zeros


def _ratios(layers: Mapping[str, nn.Module],
            ratio: float | Mapping[str, float]) -> dict[str, float]:
    """One ratio for each layer; layers that a mapping does not name keep what they have."""
    ratios = {name: share_of_zeros(layer.weight) for name, layer in layers.items()}
    given = ratio if isinstance(ratio, Mapping) else dict.fromkeys(layers, ratio)
    for name, share in given.items():
        require_choice("prune_weights", "ratio's layer", name, layers)
        ratios[name] = number(share)
        if ratios[name] is None or not 0 <= ratios[name] < 1:
            raise LabError(f"prune_weights: ratio={share!r}; give the share of weights to make "
                           "zero, 0 <= ratio < 1")
    return ratios


def _require_together(ratio: Any, importance: str, pattern: str | None, budget: str) -> None:
    require_choice("prune_weights", "importance", importance, IMPORTANCES)
    require_choice("prune_weights", "budget", budget, BUDGETS)
    require_choice("prune_weights", "pattern", pattern, [None, *PATTERNS])
    if pattern and ratio != 0.5:
        raise LabError(f"prune_weights: pattern={pattern!r} makes half of the weights zero, not "
                       f"{ratio}; give 0.5")
    if budget == "global" and (pattern or importance == "wanda" or isinstance(ratio, Mapping)):
        raise LabError(f"prune_weights: {pattern=}, {importance=}, {ratio=} compare weights inside "
                       'a layer; give budget="layer"')
