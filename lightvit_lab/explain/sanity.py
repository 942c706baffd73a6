"""Does a map depend on what the model has learned? Its weights are drawn anew, from the last part
to the first, and the map is compared with the one before.

Adebayo et al., Sanity Checks for Saliency Maps, arXiv 1810.03292, the cascading randomisation.
Derived in `chapters/practice/reading_attention`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers, require_range
from ..runtime.running import as_input, double, home_of
from ..runtime.wrapped import unwrapped
from .passes import explaining
from .relevance import Target
from .scoring import require_maps

Explainer = Callable[..., Tensor]


@dataclass(frozen=True)
class Sanity:
    """Stage -> mean rank correlation, in [0, 1], of the maps with the original ones, in the order
    of the cascade.

    A stage is named by the part whose weights were drawn anew there, beside those of all stages
    before it.
    """

    name: str
    correlations: dict[str, float]
    limit: float

    @property
    def unchanged(self) -> bool:
        """True if the map stays much the same without anything that the model has learned."""
        return self.correlations["everything"] > self.limit

    def __str__(self) -> str:
        verdict = "does not depend on the weights" if self.unchanged else "depends on the weights"
        last = self.correlations["everything"]
        return f"{self.name}: {verdict} (rank correlation {last:.2f} after all were drawn anew)"


@plain_numbers
def sanity_check(explainer: Explainer, model: nn.Module, inputs: Tensor, target: Target = None,
                 seed: int = 0, limit: float = 0.5) -> Sanity:
    """Compare the maps of `model` with those of a copy whose weights are drawn anew: head, last
    block, ..., everything.

    The comparison is the absolute rank correlation (Spearman) of each picture's two maps. The
    target, None for what the original predicts, stays the same throughout. `limit` is the mean
    correlation at the end above which a map counts as unchanged. Layers draw by their own
    `reset_parameters`, other parameters from a normal of their own mean and standard deviation. The
    model and the global random state stay as they are. Raises LabError on what `explainer` refuses,
    and if it returns no maps.
    """
    require_range("sanity_check", "limit", limit, 0, 1)
    if not callable(explainer):
        raise LabError(f"sanity_check: explainer is {type(explainer).__name__}; give a function (model, inputs, "
                       "target) -> (batch, rows, columns), as explain.relevance_map")
    model = unwrapped(model)
    inputs = as_input(model, inputs)
    with explaining("sanity_check", model, inputs, target, slopes=False) as asked:
        classes = asked.classes.to(inputs.device)
    name = getattr(explainer, "__name__", None) or getattr(getattr(explainer, "func", None), "__name__", "explainer")
    original = _map_of(name, explainer, model, inputs, classes)
    correlations = {}
    for stage, drawn in _cascade(model, seed):
        maps = _map_of(name, explainer, drawn, inputs, classes)
        correlations[stage] = float(rank_correlation(original, maps).abs().mean())
    return Sanity(name, correlations, limit)


def _cascade(model: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Stage by stage its name, and a copy of `model`, in eval mode on its device, with all up to
    there drawn anew.

    Weights are drawn on the CPU, the same for every device, and what is drawn elsewhere meanwhile
    shifts none of them.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn, home, state = copy.deepcopy(model).eval(), home_of(model), torch.get_rng_state()
    for stage in stages(drawn):
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            drawn.to("cpu")
            for part in stages(drawn)[stage]:
                draw_anew(part)
            drawn.to(home or "cpu")
            state = torch.get_rng_state()
        yield stage, drawn


def stages(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Stage -> parts of `model` to draw anew there: "head", whatever follows the blocks, each
    block, then "everything".

    Blocks are the items of lists among the model's parts; without such lists, each part counts as a
    block.
    """
    units = [unit for name, part in model.named_children() for unit in _opened(name, part)]
    blocks = [place for place, (name, _) in enumerate(units) if "." in name]
    first, last = (blocks[0], blocks[-1]) if blocks else (1, len(units) - 2)
    found = {"head": [part for _, part in units[last + 1:]]} if units[last + 1:] else {}
    found.update({name: [part] for name, part in reversed(units[first:last + 1])})
    return {**found, "everything": [model]}


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
    return torch.where(norms > 0, (one * other).sum(dim=1) / norms.clamp_min(1e-12), both_constant.to(one))


def _mean_ranks(values: Tensor) -> Tensor:
    """(batch, N) -> ranks from 0, in double, on the CPU if the device knows none; equal values
    share their mean.
    """
    ordered, values = values.sort(dim=1).values, values.contiguous()
    below, through = (torch.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return double(below + through - 1) / 2


def _opened(name: str, part: nn.Module) -> list[tuple[str, nn.Module]]:
    """The items of a list of parts, named "list.0" on; another part as it is; nothing if it holds
    no parameters.
    """
    is_list = isinstance(part, (nn.ModuleList, nn.Sequential)) and len(part)
    items = [(f"{name}.{key}", item) for key, item in part.named_children()] if is_list else [(name, part)]
    return [item for item in items if next(item[1].parameters(), None) is not None]


def _map_of(name: str, explainer: Explainer, model: nn.Module, inputs: Tensor,
            classes: Tensor) -> Tensor:
    maps = explainer(model, inputs, classes)
    require_maps(f"sanity_check: {name}", maps)
    return maps.detach()
