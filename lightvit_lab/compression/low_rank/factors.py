"""Low rank: linear layers as products of two thin ones, as `chapters/compression/low_rank` derives
it.

Of all matrices of rank r the truncated singular value decomposition is nearest to W (Eckart and
Young). But what counts is the output, and inputs x are far from round: with C the covariance of the
inputs and S S^T = C, the least error of the output, E |(W - W')(x - mean)|^2 = |(W - W') S|^2, is
had by truncating W S instead. With U the first r left singular vectors of W S, which are
eigenvectors of W C W^T, that is W' = U U^T W: no root of C is needed and none is inverted. The mean
goes through a corrected bias without loss (on the zoo's teacher that takes 1 to 2 % off the error).
SVD-LLM (arXiv 2403.07378) whitens by the second moment and corrects no bias; ASVD (arXiv
2312.05821) scales by a diagonal. All in float64, since inputs that come out of a LayerNorm have a
covariance that is near to singular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...errors import LabError, number, plain_numbers, require_choice
from ...models.transforming import Plan, transform, transformed
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, double, on_device
from ..calibrating import Calibration, input_moments, require_calibration
from ..linear_layers import block_layers
from ..low_rank_linear import LowRankLinear, break_even, require_rank
from .spectra import Spectrum, ranks_by_budget, ranks_by_energy, spectrum, worthwhile

__all__ = ["LowRankLinear", "apply_factors", "break_even", "factorize", "output_error"]
QKV = ("joint", "split", "per_head")


@plain_numbers
def factorize(model: nn.Module, rank: int | str | None = None, energy: float | None = None,
              calibration: Calibration | None = None, *, budget: float | None = None,
              qkv: str = "joint", layers: str | Sequence[str] | None = None) -> nn.Module:
    """A copy of `model` whose linear layers in attention and MLPs are products of two thin ones.

    Exactly one of: `rank`, one for all layers or "break-even" for the largest of each that saves;
    `energy`, the share in (0, 1] of the squared singular values that each layer keeps; `budget`,
    the share of these layers' parameters that are left, spent where it saves most. Layers where a
    rank saves nothing are left whole. With `calibration`, normalised pictures, errors of outputs
    are made small instead of errors of weights. `qkv` says what has factors of its own: queries,
    keys and values together ("joint"), each ("split"), or each of each head ("per_head"). `layers`
    are kinds ("qkv", "proj", "fc1", "fc2") or names. Raises LabError on ranks below 1 or over full,
    and on layers factorized before.
    """
    _require_one(rank, energy, budget)
    require_choice("factorize", "qkv", qkv, QKV)
    found = block_layers("factorize", model, layers)
    _require_whole(found)
    spectra = _spectra(model, found, qkv, calibration)
    ranks = _ranks(spectra, rank, energy, budget)
    kept = {name: value for name, value in ranks.items() if value <= worthwhile(spectra[name])}
    plan = {"transform": "factorize", "layers": {name: {"rank": value, "groups": spectra[name].groups}
                                                 for name, value in kept.items()}}
    smaller = transformed(model, plan, apply_factors)
    for name in kept:
        _write(smaller.get_submodule(name), spectra[name], kept[name])
    return smaller


@transform("factorize")
def apply_factors(model: nn.Module, plan: Plan) -> nn.Module:
    """Put a LowRankLinear, of zeros, where `plan` says: {"layers": {name: {"rank": r, "groups":
    g}}}.

    Raises LabError on what is no such plan for `model`.
    """
    layers = plan.get("layers")
    if not isinstance(layers, dict):
        raise LabError(f'apply_factors: layers={layers!r}; give {{"layers": {{name: {{"rank": 8, "groups": 1}}}}}}')
    found = block_layers("apply_factors", model, tuple(layers)) if layers else {}
    _require_whole(found)
    for name, sizes in layers.items():
        require_choice("apply_factors", "layers", name, found)
        parent, _, kind = name.rpartition(".")
        setattr(model.get_submodule(parent), kind, _empty(name, found[name], sizes))
    return model


def output_error(model: nn.Module, other: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Name -> |y - y'| / |y| over all tokens of `inputs`, of each layer that is whole in `model`,
    not in `other`.

    Both layers are given what the layer sees in `model`: errors of the layers before do not add up.
    """
    factors = {name: layer for name, layer in other.named_modules() if isinstance(layer, LowRankLinear)}
    if not factors:
        raise LabError("output_error: the second model has no factorized layer; give "
                       "(model, factorize(model, ...), inputs)")
    wrong, whole = dict.fromkeys(factors, 0.0), dict.fromkeys(factors, 0.0)

    def compare(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, arguments: tuple, _keywords: dict, output: Tensor) -> None:
            product = factors[name](as_input(factors[name], arguments[0]))
            wrong[name] += double(output - product).square().sum().item()
            whole[name] += double(output).square().sum().item()
        return hook

    hooks = [Hook(model.get_submodule(name), "output", compare(name)) for name in factors]
    with on_device(model, other, precision="float32"), hooked(hooks):
        model(as_input(model, inputs))
    return {name: (wrong[name] / whole[name]) ** 0.5 for name in factors}


def _spectra(model: nn.Module, layers: Mapping[str, nn.Linear], qkv: str,
             calibration: Calibration | None) -> dict[str, Spectrum]:
    moments = {}
    if calibration is not None:
        inputs, _ = require_calibration("factorize", calibration)
        moments = input_moments(model, inputs, layers)
    return {name: spectrum(layer, _groups(model, name, qkv), moments.get(name)) for name, layer in layers.items()}


def _groups(model: nn.Module, name: str, qkv: str) -> int:
    parent, _, kind = name.rpartition(".")
    parts = {"qkv": 3, "kv_global": 2}.get(kind, 1)
    if qkv == "joint" or parts == 1:
        return 1
    return parts if qkv == "split" else parts * model.get_submodule(parent).num_heads


def _ranks(spectra: Mapping[str, Spectrum], rank: int | str | None, energy: float | None,
           budget: float | None) -> dict[str, int]:
    if energy is not None:
        return ranks_by_energy(spectra, energy)
    if budget is not None:
        return ranks_by_budget(spectra, budget)
    if rank == "break-even":
        return {name: max(1, worthwhile(found)) for name, found in spectra.items()}
    for name, found in spectra.items():
        require_rank(f"factorize, {name}", rank, found.in_features, found.out_features // found.groups)
    return dict.fromkeys(spectra, rank)


@torch.no_grad()
def _write(layer: LowRankLinear, found: Spectrum, rank: int) -> None:
    down, up, bias = found.factors(rank)
    layer.down.weight.copy_(down)
    layer.up.weight.copy_(up)
    if bias is not None:
        layer.up.bias.copy_(bias)


def _empty(name: str, layer: nn.Linear, sizes: object) -> LowRankLinear:
    sizes = sizes if isinstance(sizes, dict) else {}
    rank, groups = sizes.get("rank"), sizes.get("groups", 1)
    if type(groups) is not int or groups < 1 or layer.out_features % groups:
        raise LabError(f"apply_factors, {name}: groups={groups!r} do not share {layer.out_features} outputs; give 1")
    require_rank(f"apply_factors, {name}", rank, layer.in_features, layer.out_features // groups)
    with torch.device("meta"):
        factors = LowRankLinear(layer.in_features, layer.out_features, rank, groups, layer.bias is not None)
    factors = factors.to(layer.weight.dtype).to_empty(device=layer.weight.device)
    for value in factors.parameters():
        nn.init.zeros_(value)
        value.requires_grad_(layer.weight.requires_grad)
    return factors


def _require_one(rank: int | str | None, energy: float | None, budget: float | None) -> None:
    sizes = {"rank": rank, "energy": energy, "budget": budget}
    given = {name: value for name, value in sizes.items() if value is not None}
    if len(given) != 1:
        raise LabError(f"factorize: give exactly one of rank, energy, budget (given: {given or 'none'}); for example "
                       "energy=0.9")
    if isinstance(rank, str):
        require_choice("factorize", "rank", rank, ["break-even"])
    for name, share in (("energy", energy), ("budget", budget)):
        if share is not None and (number(share) is None or not 0 < share <= 1):
            raise LabError(f"factorize: {name}={share!r}; give a share with 0 < {name} <= 1, for example {name}=0.9")


def _require_whole(layers: Mapping[str, nn.Module]) -> None:
    done = [name for name, layer in layers.items() if isinstance(layer, LowRankLinear)]
    if done:
        raise LabError(f"factorize: {done[0]} ({len(done)} such layers) is a product of two layers already; factorize "
                       'the model that it was made from, or name other layers, for example layers=("fc1", "fc2")')
