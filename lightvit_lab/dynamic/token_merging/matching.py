"""Which tokens become one: ToMe's bipartite soft matching, and clusters in the manner of TCFormer.

Derived in chapters/dynamic/token_merging. Bolya et al., Token Merging, arXiv 2210.09461; Kim et
al., Token Fusion (pruning and MLERP), arXiv 2312.01026; Zeng et al., TCFormer (DPC-kNN clusters),
arXiv 2204.08680.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LabError, require_choice, require_whole

MODES = ("weighted", "mean", "max", "prune", "mlerp")
NEIGHBOURS = 5       # whose distances give the density at a token


@dataclass(frozen=True)
class Matching:
    """Which of N tokens stay, M of them, and into which of those the other R = N - M go; by number.

    kept: (batch, M) the tokens that stay, in the order in which they come out
    gone: (batch, R) the tokens that go
    into: (batch, R) which of the M each goes into
    """

    kept: Tensor
    gone: Tensor
    into: Tensor

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens before the merge."""
        return self.kept.shape[1] + self.gone.shape[1]

    def merge(self, tokens: Tensor, size: Tensor | None = None, mode: str = "weighted") -> Tensor:
        """(batch, N, dim) -> (batch, M, dim); `size` (batch, N, 1): patches in each token, or 1.

        "weighted" is the mean by size, "mean" counts each token once, "max" takes the largest of
        each channel, "prune" drops what goes, "mlerp" is "weighted", as long as the longest that
        went in. Raises LabError on other modes.
        """
        require_choice("merge", "mode", mode, MODES)
        _require_tokens("merge", tokens, self.num_tokens)
        kept = _rows(tokens, self.kept)
        if mode == "prune" or not self.gone.numel():
            return kept
        if mode == "max":
            index = self.into[..., None].expand(-1, -1, tokens.shape[-1])
            return kept.scatter_reduce(1, index, _rows(tokens, self.gone), "amax")
        merged = self._mean(tokens, kept, None if mode == "mean" else size)
        if mode != "mlerp":
            return merged
        longest = self.merge(tokens.norm(dim=-1, keepdim=True), mode="max")
        return merged * (longest / merged.norm(dim=-1, keepdim=True).clamp(min=1e-12))

    def _mean(self, tokens: Tensor, kept: Tensor, size: Tensor | None) -> Tensor:
        """`kept` moved towards what goes into it: only those rows are computed, not all tokens."""
        share = 1 / _rows(self.merge_sizes(size), self.into)
        if size is not None:
            share = share * _rows(size, self.gone)
        step = (_rows(tokens, self.gone) - _rows(kept, self.into)) * share
        return _add_rows(kept, self.into, step.to(kept.dtype))

    def merge_sizes(self, size: Tensor | None = None, grow: bool = True) -> Tensor:
        """Patches in each of the M tokens, (batch, M, 1); not `grow`: what went does not count."""
        if size is None:      # at least float32: bfloat16 has no 257
            shape = (self.kept.shape[0], self.num_tokens, 1)     # len() would fix an export's batch
            size = torch.ones(shape, device=self.kept.device)
        kept = _rows(size, self.kept)
        return _add_rows(kept, self.into, _rows(size, self.gone)) if grow else kept

    def unmerge(self, tokens: Tensor) -> Tensor:
        """(batch, M, dim) -> (batch, N, dim): each place gets the token that it went into."""
        _require_tokens("unmerge", tokens, self.kept.shape[1])
        return _rows(tokens, self.places())

    def places(self) -> Tensor:
        """(batch, N): which of the M tokens each went into; one_hot gives the source matrix."""
        numbers = torch.arange(self.kept.shape[1], device=self.kept.device).expand_as(self.kept)
        order = torch.cat([self.kept, self.gone], dim=1).argsort(dim=1)
        return torch.cat([numbers, self.into], dim=1).gather(1, order)


@torch.no_grad()
def bipartite_soft_matching(metric: Tensor, r: int, protected: int = 1) -> Matching:
    """Merge the `r` most similar pairs of one token at an even, one at an odd place (ToMe).

    `metric` (batch, N, dim) is compared by cosine. The first `protected` tokens take no part and
    stay in front. r is at most half of the others; more is cut down to it, as published. As
    published, those not merged keep their order where a token is protected, and come by falling
    similarity where none is; those at odd places come last. Raises LabError on a negative r.
    """
    limit = max_r(metric.shape[1], protected)
    r = _require("bipartite_soft_matching", metric, r, protected, limit)
    numbers = _numbers(metric)
    if not r:
        return Matching(numbers, numbers[:, :0], numbers[:, :0])
    even, odd = -(-protected // 2), protected // 2       # protected tokens in each of the two sets
    unit = F.normalize(metric.to(torch.promote_types(metric.dtype, torch.float32)), dim=-1)
    similarity = unit[:, ::2] @ unit[:, 1::2].mT
    if even:
        similarity[:, :even] = -torch.inf
    if odd:
        similarity[:, :, :odd] = -torch.inf
    best, partner = similarity.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    going, staying = order[:, :r], order[:, r:]
    staying = staying.sort(dim=-1).values[:, even:] if protected else staying
    kept = torch.cat([numbers[:, :protected], 2 * staying, numbers[:, 2 * odd + 1::2]], dim=1)
    before = protected + staying.shape[1] - odd     # kept tokens in front of the first partner
    return Matching(kept, 2 * going, before + partner.gather(1, going))


@torch.no_grad()
def cluster_matching(metric: Tensor, r: int, protected: int = 1,
                     neighbours: int = NEIGHBOURS) -> Matching:
    """Merge tokens (batch, N, dim) into N - r clusters of any size, by density peaks (DPC-kNN).

    Centres are tokens with close `neighbours` and no denser token near; the others go into the
    closest centre. The first `protected` tokens stay apart, in front; centres keep their order.
    Raises LabError on a negative r, and on less than one neighbour.
    """
    r = _require("cluster_matching", metric, r, protected, metric.shape[1] - protected - 1)
    neighbours = require_whole("cluster_matching", "neighbours", neighbours, 1)
    numbers = _numbers(metric)
    if not r:
        return Matching(numbers, numbers[:, :0], numbers[:, :0])
    distance = _distances(metric[:, protected:])
    centres, others = _peaks(distance, distance.shape[1] - r, neighbours)
    to_centres = distance.gather(1, others[..., None].expand(-1, -1, distance.shape[2]))
    closest = to_centres.gather(2, centres[:, None].expand(-1, r, -1)).argmin(dim=-1)
    kept = torch.cat([numbers[:, :protected], protected + centres], dim=1)
    return Matching(kept, protected + others, protected + closest)


MATCHINGS: dict[str, Callable[..., Matching]] = {"bipartite": bipartite_soft_matching,
                                                 "clusters": cluster_matching}


def max_r(num_tokens: int, protected: int) -> int:
    """How many of `num_tokens` can go at once: half of those that are not protected."""
    return max(0, num_tokens - protected) // 2


def _numbers(metric: Tensor) -> Tensor:
    """(batch, N): the numbers of the tokens, from 0."""
    return torch.arange(metric.shape[1], device=metric.device).expand(metric.shape[0], -1)


def _distances(metric: Tensor) -> Tensor:
    """Squared distances per dimension, (batch, n, n)."""
    points = metric.to(torch.promote_types(metric.dtype, torch.float32))
    squares = points.square().sum(-1)
    distance = squares[:, :, None] + squares[:, None] - 2 * points @ points.mT
    return distance.clamp(min=0) / metric.shape[-1]


def _peaks(distance: Tensor, count: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """The `count` centres and the others, (batch, count) and (batch, n - count), both rising."""
    nearest = distance.topk(min(neighbours + 1, distance.shape[1]), largest=False).values
    density = (-nearest.mean(dim=-1)).exp()              # over itself and its neighbours
    denser = density[:, None] > density[:, :, None]
    apart = distance.masked_fill(~denser, torch.inf).amin(dim=-1)
    # nothing is denser than the densest: there the distance to the farthest counts
    apart = torch.minimum(apart, distance.amax(dim=-1)).sqrt()
    order = (density * apart).argsort(dim=-1, descending=True, stable=True)
    return order[:, :count].sort(dim=-1).values, order[:, count:].sort(dim=-1).values


def _rows(tokens: Tensor, index: Tensor) -> Tensor:
    """(batch, N, dim) at index (batch, M) -> (batch, M, dim), by copying whole rows."""
    flat = tokens.flatten(0, 1).index_select(0, _flat(index, tokens.shape[1]))
    return flat.unflatten(0, tuple(index.shape))


def _add_rows(fresh: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """`rows` (batch, R, dim) added at index (batch, R) to `fresh`, a new tensor, in place."""
    fresh.view(-1, fresh.shape[-1]).index_add_(0, _flat(index, fresh.shape[1]), rows.flatten(0, 1))
    return fresh


def _flat(index: Tensor, num_tokens: int) -> Tensor:
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return (index + num_tokens * rows).flatten()


def _require(caller: str, metric: Tensor, r: int, protected: int, limit: int) -> int:
    """`r`, at most `limit`. Raises LabError on a wrong metric, r or number of protected tokens."""
    if metric.ndim != 3:
        raise LabError(f"{caller}: metric has shape {tuple(metric.shape)}; give (batch, tokens, "
                       "dim), such as the keys of attention, their mean over heads: keys.mean(1)")
    require_whole(caller, "protected", protected, 0, metric.shape[1])
    return min(require_whole(caller, "r", r, 0), max(0, limit))


def _require_tokens(caller: str, tokens: Tensor, count: int) -> None:
    if tokens.ndim != 3 or tokens.shape[1] != count:
        raise LabError(f"{caller}: tokens have shape {tuple(tokens.shape)}; this matching takes "
                       f"(batch, {count}, dim)")
