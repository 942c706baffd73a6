"""From scores to what is kept: a share of every layer, or of all layers together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import LabError, require_choice, require_range

Ratio = float | Mapping[str, float]      # the share removed; of each layer, or of those named


def units_to_keep(caller: str, part: str, scores: Mapping[str, Tensor], ratio: Ratio, budget: str,
           multiple_of: int, comparable: bool) -> Any:
    """What `apply_pruning` keeps, from `importance.scores` of `part`.

    `comparable`: scores of different layers are in one unit; else each layer's are divided by their
    mean first. Raises LabError for ratios that leave nothing, and on unknown layers.
    """
    if part in ("embedding", "blocks"):
        return _choose_one(caller, part, scores, ratio, multiple_of)
    if isinstance(ratio, Mapping):
        for name in ratio:
            require_choice(caller, "layer", name, scores)
        if not ratio:
            raise LabError(f"{caller}: ratio={{}} names no layer; give a number for all, or names: "
                           f"{{{next(iter(scores))!r}: 0.5}}")
        if budget == "global":
            raise LabError(f"{caller}: ratio says it for each layer, where budget='global' would choose; give a "
                           "number, or budget='layer'")
        scores = {name: scores[name] for name in ratio}
    ranked = {name: _ranked(value) for name, value in scores.items()}
    if budget == "global":
        counts = _global_counts(caller, ranked, ratio, multiple_of, comparable)
    else:
        shares = ratio if isinstance(ratio, Mapping) else dict.fromkeys(ranked, ratio)
        counts = {name: _count(caller, name, len(value), shares[name], multiple_of) for name, value in ranked.items()}
    return {name: _kept(scores[name], counts[name]) for name in scores}


def _choose_one(caller: str, part: str, scores: Mapping[str, Tensor], ratio: Ratio,
                multiple_of: int) -> list:
    """The channels, or the names of blocks, that are kept of the one list that there is."""
    if part == "blocks" and isinstance(ratio, Mapping):
        for name, share in ratio.items():
            require_choice(caller, "block", name, scores)
            require_choice(caller, f"ratio of {name}", share, [0, 1])
        return _require_some(caller, [name for name in scores if not ratio.get(name, 0)], scores)
    if isinstance(ratio, Mapping):
        raise LabError(f"{caller}: ratio={dict(ratio)}; there is one width for all layers, give one number")
    if part == "embedding":
        values = scores["embedding"]
        return _kept(values, _count(caller, "the embedding", len(values), ratio, multiple_of))
    values, names = torch.stack(list(scores.values())), list(scores)
    best = _kept(values, _count(caller, "the model", len(names), ratio, multiple_of))
    return _require_some(caller, [names[place] for place in best], scores)


def _require_some(caller: str, kept: list[str], names: Mapping[str, Any]) -> list[str]:
    for parent in dict.fromkeys(name.rpartition(".")[0] for name in names):
        if not any(name.rpartition(".")[0] == parent for name in kept):
            raise LabError(f"{caller}: this would leave no block in {parent}; remove fewer, or say which: "
                           f"ratio={{{next(iter(names))!r}: 1}}")
    return kept


def _count(caller: str, name: str, size: int, ratio: float, multiple_of: int) -> int:
    """How many of `size` are kept: the largest multiple of `multiple_of` that removes at least the
    share `ratio`.
    """
    require_range(caller, f"ratio of {name}", ratio, 0, 1)
    count = _floor((1 - ratio) * size)
    if count == size:
        return size
    if (rounded := count // multiple_of * multiple_of) < 1:
        most = (size - multiple_of) / size
        why = f"in multiples of {multiple_of}" if multiple_of > 1 else "and one has to stay"
        allowed = f"give 0 <= ratio <= {math.floor(most * 1000) / 1000:g}" if most > 0 else "leave it whole: ratio=0"
        raise LabError(f"{caller}: ratio={ratio} leaves none of the {size} units of {name} ({why}); {allowed}")
    return rounded


def _floor(value: float) -> int:
    return math.floor(value + 1e-6)      # 0.7 * 10 is a little less than 7


def _ranked(scores: Tensor) -> Tensor:
    """(units,) falling. Dimensions of heads go one from each head, and each for queries and for
    values: their mean.
    """
    if scores.dim() == 1:
        return scores.sort(descending=True).values
    scaled = scores / scores.mean((1, 2), keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return scaled.sort(dim=2, descending=True).values.mean((0, 1)) * scores.mean()


def _global_counts(caller: str, ranked: Mapping[str, Tensor], ratio: float, multiple_of: int,
                   comparable: bool) -> dict[str, int]:
    """How many each layer keeps, of all together the share 1 - `ratio`, at least one group of
    `multiple_of` in each.
    """
    require_range(caller, "ratio", ratio, 0, 1)
    total = _floor((1 - ratio) * sum(len(value) for value in ranked.values()))
    counts = {name: min(multiple_of, len(value)) for name, value in ranked.items()}
    if (left := total - sum(counts.values())) < 0:
        raise LabError(f"{caller}: ratio={ratio} leaves {total} units in all, fewer than {multiple_of} in each of the "
                       f"{len(ranked)} layers; give a smaller ratio")
    groups = [(-float(part.mean() if comparable else part.mean() / value.mean().clamp_min(1e-30)), len(part), name)
              for name, value in ranked.items() for part in value.split(multiple_of)[1:]]
    for _, size, name in sorted(groups, key=lambda group: group[0]):
        if size > left:      # a smaller group further on would leave its layer at no multiple
            break
        counts[name], left = counts[name] + size, left - size
    return counts


def _kept(scores: Tensor, count: int) -> Any:
    """Indices of the `count` highest, rising; of head dimensions in each head, of queries with keys
    and of values.
    """
    best = scores.sort(dim=-1, descending=True, stable=True).indices[..., :count].sort(dim=-1).values.tolist()
    return best if scores.dim() == 1 else {"qk": best[0], "v": best[1]}
