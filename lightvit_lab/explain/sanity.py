"""Does a map depend on what the model has learned? It is compared with maps of random weights.

Weights are drawn anew from the last part of the model to the first: Adebayo et al., Sanity Checks
for Saliency Maps, arXiv 1810.03292, the cascading randomisation. Derived in
`chapters/practice/reading_attention`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import plain_numbers
from ..runtime.running import double, home_of
from .passes import Target, require_explainer, targets
from .scoring import require_maps

Explainer = Callable[..., Tensor]
LIMIT = 0.5          # mean rank correlation above which a map counts as unchanged


class Sanity(NamedTuple):
    """Stage -> mean rank correlation, in [0, 1], of the maps with the original ones.

    Stages are in the order of the cascade, each named by the part whose weights were drawn anew
    there, in addition to those of all stages before it.
    """

    name: str
    correlations: dict[str, float]

    @property
    def unchanged(self) -> bool:
        """True if the map stays much the same without anything that the model has learned."""
        return self.correlations["everything"] > LIMIT

    def __str__(self) -> str:
        verdict = "does not depend on the weights" if self.unchanged else "depends on the weights"
        last = self.correlations["everything"]
        return f"{self.name}: {verdict} (rank correlation {last:.2f} after all were drawn anew)"


@plain_numbers
def sanity_check(explainer: Explainer, model: nn.Module, inputs: Tensor, target: Target = None,
                 seed: int = 0) -> Sanity:
    """Compare maps of `model` with those of a copy whose weights are drawn anew, part by part.

    The order is: head, last block, ..., first block, everything. The comparison is the absolute
    rank correlation (Spearman) of each picture's two maps. The target, None for what the original
    predicts, stays the same throughout. Layers draw by their own `reset_parameters`, other
    parameters from a normal of their own mean and standard deviation. The model and the global
    random state stay as they are. Raises LabError on what `explainer` refuses, and if it returns no
    maps.
    """
    require_explainer("sanity_check", "explainer", explainer)
    model, inputs, classes = targets("sanity_check", model, inputs, target)
    named = getattr(explainer, "func", explainer)        # the function inside a functools.partial
    name = getattr(named, "__name__", "explainer")

    def maps_of(model: nn.Module) -> Tensor:
        maps = explainer(model, inputs, classes)
        require_maps(f"sanity_check: {name}", maps)
        return maps.detach()

    original, correlations = maps_of(model), {}
    for stage, drawn in _cascade(model, seed):
        correlations[stage] = float(rank_correlation(original, maps_of(drawn)).abs().mean())
    return Sanity(name, correlations)


def _cascade(model: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Each stage's name, and a copy of `model`, in eval mode, with all up to there drawn anew.

    Weights are drawn on the CPU, the same for every device, and whatever the explainer draws
    between two stages changes none of them.
    """
    home, state = home_of(model) or "cpu", torch.Generator().manual_seed(seed).get_state()
    with torch.inference_mode(False):
        drawn = copy.deepcopy(model).eval()
    for stage, parts in stages(drawn).items():
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            drawn.to("cpu")
            for part in parts:
                draw_anew(part)
            drawn.to(home)
            state = torch.get_rng_state()
        yield stage, drawn


def stages(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Stage -> parts of `model` to draw anew there: "head", each block, then "everything".

    The head is whatever follows the blocks. Blocks are the items of lists among the model's parts;
    without such lists, each part counts as a block.
    """
    units = {}
    for name, part in model.named_children():
        is_list = isinstance(part, (nn.ModuleList, nn.Sequential)) and len(part)
        items = part.named_children() if is_list else [("", part)]
        for key, item in items:
            if next(item.parameters(), None) is not None:
                units[f"{name}.{key}" if is_list else name] = item
    names = list(units)
    blocks = [place for place, name in enumerate(names) if "." in name] or [1, len(names) - 2]
    head, middle = names[blocks[-1] + 1:], names[blocks[0]:blocks[-1] + 1]
    found = {"head": [units[name] for name in head]} if head else {}
    return {**found, **{name: [units[name]] for name in reversed(middle)}, "everything": [model]}


@torch.no_grad()
def draw_anew(module: nn.Module) -> None:
    """Draw all parameters of `module`, in place, from torch's global random state."""
    for part in module.modules():
        is_leaf = next(part.children(), None) is None
        if is_leaf and callable(getattr(part, "reset_parameters", None)):
            part.reset_parameters()
            continue
        for parameter in part.parameters(recurse=False):
            spread = parameter.std(correction=0)
            parameter.copy_(parameter.mean() + spread * torch.randn_like(parameter))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of each pair of maps (batch, rows, columns): (batch,) in [-1, 1].

    Ties share their mean rank. Of a constant map it is undefined: 0 here, and 1 for two constant
    maps.
    """
    one, other = (_mean_ranks(maps.flatten(1)) for maps in (first, second))
    one, other = one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True)
    norms = one.norm(dim=1) * other.norm(dim=1)
    both_constant = (one == 0).all(dim=1) & (other == 0).all(dim=1)
    found = (one * other).sum(dim=1) / norms.clamp_min(1e-12)
    return torch.where(norms > 0, found, both_constant.to(one))


def _mean_ranks(values: Tensor) -> Tensor:
    """Values (batch, N) -> ranks from 0 in float64, see `double`; equal values share their mean."""
    ordered, values = values.sort(dim=1).values, values.contiguous()
    below, through = (torch.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return double(below + through - 1) / 2
