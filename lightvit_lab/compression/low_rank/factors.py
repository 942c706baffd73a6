"""Low rank: linear layers as products of two thin ones.

As `chapters/compression/low_rank` derives it. Of all matrices of rank r the truncated singular
value decomposition is nearest to W (Eckart and Young). But what counts is the output, and inputs x
are far from round: with C the covariance of the inputs and S S^T = C, the least error of the
output, E |(W - W')(x - mean)|^2 = |(W - W') S|^2, is had by truncating W S instead. With U the
first r left singular vectors of W S, which are eigenvectors of W C W^T, that is W' = U U^T W: no
root of C is needed and none is inverted. The mean goes through a corrected bias without loss (on
the zoo's teacher that takes 1 to 2 % off the error). SVD-LLM (arXiv 2403.07378) whitens by the
second moment and corrects no bias; ASVD (arXiv 2312.05821) scales by a diagonal. All in float64,
since inputs that come out of a LayerNorm have a covariance that is near to singular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ...errors import LabError, number, plain_numbers, require_choice
from ...models.transforming import Plan, transform, transformed
from ...runtime.hooks import Hook, hooked
from ...runtime.running import as_input, double, on_device
from ..calibrating import Calibration, input_moments, require_calibration
from ..linear_layers import LowRankLinear, block_layers, break_even, require_rank
from .spectra import Spectrum, ranks_by_budget, ranks_by_energy, spectrum, worthwhile

__all__ = ["LowRankLinear", "apply_factors", "break_even", "factorize", "output_error"]


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
    _require_one(rank=rank, energy=energy, budget=budget)
    require_choice("factorize", "qkv", qkv, ("joint", "split", "per_head"))
    whole, moments = _whole_layers("factorize", model, layers), {}
    if calibration is not None:
        inputs, _ = require_calibration("factorize", calibration)
        moments = input_moments(model, inputs, whole)
    spectra = {name: spectrum(layer, _groups(model, name, qkv), moments.get(name))
               for name, layer in whole.items()}
    ranks = {name: value for name, value in _ranks(spectra, rank, energy, budget).items()
             if value <= worthwhile(spectra[name])}
    sizes = {name: {"rank": value, "groups": len(spectra[name].weight)}
             for name, value in ranks.items()}
    smaller = transformed(model, {"transform": "factorize", "layers": sizes}, apply_factors)
    weights = {}
    for name, value in ranks.items():
        parts = zip(("down.weight", "up.weight", "up.bias"), spectra[name].factors(value))
        weights |= {f"{name}.{part}": tensor for part, tensor in parts if tensor is not None}
    smaller.load_state_dict(weights, strict=False)
    return smaller


@transform("factorize")
def apply_factors(model: nn.Module, plan: Plan) -> nn.Module:
    """Put a LowRankLinear, of zeros, wherever `plan` says.

    Plans are {"layers": {name: {"rank": r, "groups": g}}}. Raises LabError on what is no such plan
    for `model`.
    """
    layers = plan.get("layers")
    if not isinstance(layers, dict):
        raise LabError(f'apply_factors: {layers=}; give {{"layers": {{name: {{"rank": 8}}}}}}')
    found = _whole_layers("apply_factors", model, tuple(layers)) if layers else {}
    for name, sizes in layers.items():
        require_choice("apply_factors", "layers", name, found)
        parent, _, kind = name.rpartition(".")
        setattr(model.get_submodule(parent), kind, _empty(found[name], sizes))
    return model


def output_error(model: nn.Module, other: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Name -> |y - y'| / |y| over all tokens of `inputs`, of layers factorized in `other` alone.

    Both layers are given what `model` gives its own: errors of the layers before do not add up.
    """
    factors = {name: layer for name, layer in other.named_modules()
               if isinstance(layer, LowRankLinear)}
    if not factors:
        raise LabError("output_error: the second model has no factorized layer; give "
                       "(model, factorize(model, ...), inputs)")
    wrong, whole = dict.fromkeys(factors, 0.0), dict.fromkeys(factors, 0.0)

    def compare(name: str, _layer: nn.Module, given: tuple, _: dict, output: Tensor) -> None:
        product = factors[name](as_input(factors[name], given[0]))
        wrong[name] += double(output - product).square().sum().item()
        whole[name] += double(output).square().sum().item()

    hooks = [Hook(model.get_submodule(name), "output", partial(compare, name)) for name in factors]
    with on_device(model, other, precision="float32"), hooked(hooks):
        model(as_input(model, inputs))
    return {name: (wrong[name] / whole[name]) ** 0.5 for name in factors}


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
        _, rows, columns = found.weight.shape
        require_rank(f"factorize, {name}", rank, columns, rows)
    return dict.fromkeys(spectra, rank)


def _empty(layer: nn.Linear, sizes: object) -> LowRankLinear:
    sizes = sizes if isinstance(sizes, dict) else {}
    rank, groups, has_bias = sizes.get("rank"), sizes.get("groups", 1), layer.bias is not None
    with torch.device("meta"):
        factors = LowRankLinear(layer.in_features, layer.out_features, rank, groups, has_bias)
    factors = factors.to(layer.weight.dtype).to_empty(device=layer.weight.device)
    for value in factors.parameters():
        nn.init.zeros_(value).requires_grad_(layer.weight.requires_grad)
    return factors


def _require_one(**sizes: int | float | str | None) -> None:
    given = {name: value for name, value in sizes.items() if value is not None}
    if len(given) != 1:
        raise LabError("factorize: give exactly one of rank, energy, budget (given: "
                       f"{given or 'none'}); for example energy=0.9")
    [(name, value)] = given.items()
    if isinstance(value, str) and name == "rank":
        require_choice("factorize", "rank", value, ["break-even"])
    elif name != "rank" and (number(value) is None or not 0 < value <= 1):
        raise LabError(f"factorize: {name}={value!r}; give 0 < {name} <= 1, for example {name}=0.9")


def _whole_layers(caller: str, model: nn.Module,
                  wanted: str | Sequence[str] | None) -> dict[str, nn.Linear]:
    layers = block_layers(caller, model, wanted)
    done = [name for name, layer in layers.items() if isinstance(layer, LowRankLinear)]
    if done:
        raise LabError(f"{caller}: {done[0]} is a product of two layers already; give the model "
                       'that this one was made from, or other layers, as layers=("fc1", "fc2")')
    return layers
