"""From scores to what is kept: a share of every layer, or of all layers together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import LabError, require_choice, require_range
from .structure import lists_emptied

Ratio = float | Mapping[str, float]      # the share removed; of each layer, or of those named


def units_to_keep(caller: str, part: str, scores: Mapping[str, Tensor], ratio: Ratio, budget: str,
                  multiple_of: int, comparable: bool) -> Any:
    """What `apply_pruning` keeps, from `importance.scores` of `part`.

    `comparable`: scores of different layers are in one unit; else each layer's are divided by their
    mean first. Raises LabError for ratios that leave nothing, and on unknown layers.
    """
    if part == "blocks":
        return _blocks_to_keep(caller, scores, ratio, multiple_of)
    if part == "embedding":
        if isinstance(ratio, Mapping):
            raise LabError(f"{caller}: ratio={dict(ratio)}, but there is one width for all layers; "
                           "give one number")
        [values] = scores.values()
        return _best(values, _count(caller, "the embedding", len(values), ratio, multiple_of))
    if isinstance(ratio, Mapping):
        for name in ratio:
            require_choice(caller, "layer", name, scores)
        if not ratio:
            raise LabError(f"{caller}: ratio={{}} names no layer; give a number for all, or ratios "
                           f"by name: {{{next(iter(scores))!r}: 0.5}}")
        if budget == "global":
            raise LabError(f"{caller}: {ratio=} is for single layers, and budget='global' for all; "
                           "give a number, or budget='layer'")
        scores = {name: scores[name] for name in ratio}
    ranked = {name: _ranked(value) for name, value in scores.items()}
    if budget == "global":
        counts = _global_counts(caller, ranked, ratio, multiple_of, comparable)
    else:
        shares = ratio if isinstance(ratio, Mapping) else dict.fromkeys(ranked, ratio)
        counts = {name: _count(caller, name, len(ranked[name]), shares[name], multiple_of)
                  for name in ranked}
    return {name: _best(scores[name], counts[name]) for name in scores}


def _blocks_to_keep(caller: str, scores: Mapping[str, Tensor], ratio: Ratio,
                    multiple_of: int) -> list[str]:
    """The names of blocks that are kept."""
    names = list(scores)
    if isinstance(ratio, Mapping):
        for name, share in ratio.items():
            require_choice(caller, "block", name, scores)
            require_choice(caller, f"ratio of {name}", share, [0, 1])
        kept = [name for name in names if not ratio.get(name, 0)]
    else:
        count = _count(caller, "the model", len(names), ratio, multiple_of)
        kept = [names[place] for place in _best(torch.stack([*scores.values()]), count)]
    for parent in lists_emptied(names, kept):
        raise LabError(f"{caller}: this would leave no block in {parent}; remove fewer, or say "
                       f"which: ratio={{{names[0]!r}: 1}}")
    return kept


def _count(caller: str, name: str, size: int, ratio: float, multiple_of: int) -> int:
    """How many of `size` are kept: a multiple of `multiple_of`, or all of them.

    It is the largest that removes at least the share `ratio`.
    """
    count = _floor((1 - require_range(caller, f"ratio of {name}", ratio, 0, 1)) * size)
    if count == size:
        return size
    if count < multiple_of:
        most = math.floor(max(0, size - multiple_of) / size * 1000) / 1000
        raise LabError(f"{caller}: ratio={ratio} leaves none of the {size} units of {name} (in "
                       f"multiples of {multiple_of}); give 0 <= ratio <= {most:g}, or ratio=0")
    return count // multiple_of * multiple_of


def _floor(value: float) -> int:
    return math.floor(value + 1e-6)      # 0.7 * 10 is a little less than 7


def _ranked(scores: Tensor) -> Tensor:
    """(units,) falling. Of head dimensions, one goes from each head: their mean over all heads.

    Those of queries and of values are averaged too.
    """
    if scores.dim() == 1:
        return scores.sort(descending=True).values
    scaled = scores / scores.mean((1, 2), keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    return scaled.sort(dim=2, descending=True).values.mean((0, 1)) * scores.mean()


def _global_counts(caller: str, ranked: Mapping[str, Tensor], ratio: float, multiple_of: int,
                   comparable: bool) -> dict[str, int]:
    """How many each layer keeps, of all together the share 1 - `ratio`.

    It is at least one group of `multiple_of` in each.
    """
    ratio = require_range(caller, "ratio", ratio, 0, 1)
    total = _floor((1 - ratio) * sum(len(value) for value in ranked.values()))
    counts = {name: min(multiple_of, len(value)) for name, value in ranked.items()}
    if (left := total - sum(counts.values())) < 0:
        raise LabError(f"{caller}: ratio={ratio} leaves {total} units in all, fewer than "
                       f"{multiple_of} in each of the {len(ranked)} layers; give a smaller ratio")
    groups = []
    for name, value in ranked.items():
        unit = 1.0 if comparable else value.mean().clamp_min(1e-30)
        for part in value.split(multiple_of)[1:]:
            groups.append((-float(part.mean() / unit), len(part), name))
    for _, size, name in sorted(groups, key=lambda group: group[0]):
        if size > left:      # a smaller group further on would leave its layer at no multiple
            break
        counts[name], left = counts[name] + size, left - size
    return counts


def _best(scores: Tensor, count: int) -> Any:
    """Indices of the `count` highest, rising; of head dimensions, {"qk": ..., "v": ...} by head."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    best = order[..., :count].sort(dim=-1).values.tolist()
    return best if scores.dim() == 1 else {"qk": best[0], "v": best[1]}
