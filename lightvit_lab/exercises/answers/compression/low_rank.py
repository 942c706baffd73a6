"""Known wrong answers to the exercises of `chapters/compression/low_rank`."""

from __future__ import annotations

import torch
from torch import Tensor
from ...compression.low_rank import Thin
from .. import Mistake


_TOKENS, _DIM = 65, 96                                   # of the lab's teacher


_PRODUCTS = 2 * _TOKENS**2 * _DIM


_LINEAR = 12 * _TOKENS * _DIM**2                         # and of the linear layers beside them


def _thin(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    up, values, down = torch.linalg.svd(weight, full_matrices=False)
    return values[:rank, None] * down[:rank], up[:, :rank], bias


def _thin_without_values(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    up, _, down = torch.linalg.svd(weight, full_matrices=False)
    return down[:rank], up[:, :rank], bias


def _thin_values_twice(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    up, values, down = torch.linalg.svd(weight, full_matrices=False)
    return values[:rank, None] * down[:rank], up[:, :rank] * values[:rank], bias


def _thin_from_below(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    up, values, down = torch.linalg.svd(weight, full_matrices=False)
    return values[-rank:, None] * down[-rank:], up[:, -rank:], bias


def _thin_transposed(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    up, values, down = torch.linalg.svd(weight, full_matrices=False)
    return values[:rank, None] * down[:, :rank].T, up[:, :rank], bias


def _thin_bias_dropped(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    return *_thin(weight, bias, rank)[:2], torch.zeros_like(bias)


def _thin_bias_in_the_middle(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    first, second, _ = _thin(weight, bias, rank)
    return first, second, second @ (second.T @ bias)


def _thin_whole(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    return _thin(weight, bias, min(weight.shape))


def _thin_swapped(weight: Tensor, bias: Tensor, rank: int) -> Thin:
    first, second, _ = _thin(weight, bias, rank)
    return second, first, bias


def _rank(values: Tensor, energy: float) -> int:
    shares = values.square().cumsum(0) / values.square().sum()
    return int((shares < energy).sum()) + 1


def _rank_unsquared(values: Tensor, energy: float) -> int:
    return int((values.cumsum(0) / values.sum() < energy).sum()) + 1


def _rank_one_short(values: Tensor, energy: float) -> int:
    return _rank(values, energy) - 1


def _rank_of_count(values: Tensor, energy: float) -> int:
    return -int(-energy * len(values) // 1)


def _rank_of_length(values: Tensor, energy: float) -> int:
    return _rank(values, energy**2)


def _rank_from_below(values: Tensor, energy: float) -> int:
    return _rank(values.flip(0), energy)


def _rank_by_size(values: Tensor, energy: float) -> int:
    return int((values >= (1 - energy) * values[0]).sum())


def _rank_removed(values: Tensor, energy: float) -> int:
    return len(values) - _rank(values, energy)


def _cut(matrix: Tensor, rank: int) -> Tensor:
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    return up[:, :rank] * values[:rank] @ down[:rank]


def _whitened_not_at_all(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    return _cut(weight, rank)


def _whitened_not_undone(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    return _cut(weight @ torch.linalg.cholesky(moment), rank)


def _whitened_by_moment(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    return _cut(weight @ moment, rank) @ torch.linalg.inv(moment)


def _whitened_backwards(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    root = torch.linalg.cholesky(moment)
    return _cut(weight @ torch.linalg.inv(root), rank) @ root


def _whitened_transposed(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    root = torch.linalg.cholesky(moment).T
    return _cut(weight @ root, rank) @ torch.linalg.inv(root)


def _whitened_diagonal(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    sizes = moment.diagonal().sqrt()
    return _cut(weight * sizes, rank) / sizes


def _whitened_wrong_side(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    root = torch.linalg.cholesky(moment)
    return torch.linalg.inv(root) @ _cut(root @ weight, rank)


def _means(keys: Tensor, rank: int) -> Tensor:
    image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).mean(dim=3)
    return torch.cat([keys[:, :, :1], image], dim=2)


def _means_of_all(keys: Tensor, rank: int) -> Tensor:
    return keys.unflatten(2, (rank, -1)).mean(dim=3)


def _means_strided(keys: Tensor, rank: int) -> Tensor:
    image = keys[:, :, 1:].unflatten(2, (-1, rank - 1)).mean(dim=2)
    return torch.cat([keys[:, :, :1], image], dim=2)


def _means_summed(keys: Tensor, rank: int) -> Tensor:
    image = keys[:, :, 1:].unflatten(2, (rank - 1, -1)).sum(dim=3)
    return torch.cat([keys[:, :, :1], image], dim=2)


def _means_picked(keys: Tensor, rank: int) -> Tensor:
    image = keys[:, :, 1:].unflatten(2, (rank - 1, -1))[:, :, :, 0]
    return torch.cat([keys[:, :, :1], image], dim=2)


def _means_without_class(keys: Tensor, rank: int) -> Tensor:
    return _means(keys, rank)[:, :, 1:]


def _means_class_last(keys: Tensor, rank: int) -> Tensor:
    return _means(keys, rank).roll(-1, dims=2)


MISTAKES = {
    "low_rank.break_even": (
        Mistake("full rank", "At this rank one of the two thin layers is as large as the whole layer was, and the other comes on top.",
                "Both count: rank * (192 + 768) against 192 * 768.", answer=192),
        Mistake("rounded up", "Just beyond: 154 * 960 is more than 192 * 768.",
                "Round down.", answer=154),
        Mistake("not rounded", "There the two break even. A rank is a whole number.",
                "The largest whole number below it.", answer=153.6),
        Mistake("square", "Half of the full rank is the break-even of a square matrix. This one is four times as wide as high.",
                "192 * 768 / (192 + 768).", answer=96),
        Mistake("harmonic mean", "This is the harmonic mean of the two widths, twice what we look for, and more than the matrix has.",
                "m n / (m + n), without the factor 2.", answer=307),
    ),
    "low_rank.factors": (
        Mistake("singular values forgotten", "Your layers turn and turn back, but nothing stretches: the singular values are missing.",
                "Multiply the rows of one factor by values[:rank].", answer=_thin_without_values),
        Mistake("singular values twice", "Both of your layers carry the singular values, so that large directions come out far too large.",
                "Give them to one layer, or their roots to both.", answer=_thin_values_twice),
        Mistake("the smallest", "You kept the smallest singular values: the worst layer of this rank, not the best.",
                "torch sorts them with the largest first: [:rank].", answer=_thin_from_below),
        Mistake("not transposed", "You took columns of Vh. torch.linalg.svd gives the transposed matrix, whose rows are the directions in the input.",
                "The first layer is made of Vh[:rank].", answer=_thin_transposed),
        Mistake("bias dropped", "The weights are right. Where is the bias?",
                "The second layer has it, as it was.", answer=_thin_bias_dropped),
        Mistake("bias in the middle", "Your bias went through the second layer, which has only `rank` directions left for it.",
                "Leave it out of the first layer; the second one adds it, whole.", answer=_thin_bias_in_the_middle),
        Mistake("nothing left out", "The layer is the same as before, at the full rank.",
                "Keep `rank` rows of one factor and as many columns of the other.", answer=_thin_whole),
        Mistake("swapped", "The layers have changed places.",
                "The first has shape (rank, in), the second (out, rank).", answer=_thin_swapped),
    ),
    "low_rank.energy": (
        Mistake("not squared", "You summed the singular values. Energy is the sum of their squares, since the error is one, too.",
                "values.square() first.", answer=_rank_unsquared),
        Mistake("one short", "One too few: what you keep stays below the share.",
                "Count the ranks that are not yet enough, and take one more.", answer=_rank_one_short),
        Mistake("share of the count", "This is a share of the number of singular values. The first ones hold far more than their share.",
                "Compare the running sum of squares with its total.", answer=_rank_of_count),
        Mistake("share of the length", "You compared the root of the energy. That is the share of the norm.",
                "No root: sum of squares over sum of squares.", answer=_rank_of_length),
        Mistake("from below", "You began with the smallest.",
                "They come with the largest first; leave the order.", answer=_rank_from_below),
        Mistake("by size", "You kept what is not much smaller than the largest one. Many small ones may hold much together.",
                "Sum up.", answer=_rank_by_size),
        Mistake("what goes", "This is how many are left out.",
                "How many stay?", answer=_rank_removed),
    ),
    "low_rank.whitened": (
        Mistake("plain", "This is the best approximation of the weight. For inputs that favour some directions it is not the best for the output.",
                "Decompose weight @ S in place of weight.", answer=_whitened_not_at_all),
        Mistake("not undone", "This expects inputs that were whitened before. Ours come as they are.",
                "Multiply by the inverse of S on the same side.", answer=_whitened_not_undone),
        Mistake("moment for its root", "You weighed the directions by the second moment itself. The error is a square, and the moment is one, too.",
                "S is a root of it: S @ S.T = moment.", answer=_whitened_by_moment),
        Mistake("the wrong way round", "You divided by the root first and multiplied afterwards: directions that never occur count most.",
                "weight @ S, and the inverse afterwards.", answer=_whitened_backwards),
        Mistake("root transposed", "Your root is transposed: S @ S.T is not the moment then.",
                "torch.linalg.cholesky gives the lower root L with L @ L.T = moment: take it as it is.", answer=_whitened_transposed),
        Mistake("diagonal", "You weighed each input by its size. Inputs move together, and that stands beside the diagonal.",
                "The whole root, torch.linalg.cholesky(moment).", answer=_whitened_diagonal),
        Mistake("wrong side", "S meets the outputs' side of the weight. It belongs to the inputs.",
                "A weight is (out, in): weight @ S.", answer=_whitened_wrong_side),
    ),
    "low_rank.segments": (
        Mistake("class token averaged in", "The class token disappears in the first segment. It holds what the head will read.",
                "Leave keys[:, :, :1] as it is; average the others.", answer=_means_of_all),
        Mistake("strided", "Your segments take every so many tokens from all over the picture. Neighbours are alike.",
                "unflatten(2, (rank - 1, -1)), then the mean over dimension 3.", answer=_means_strided),
        Mistake("summed", "Sums grow with the segments, and so would the logits.",
                "mean, not sum.", answer=_means_summed),
        Mistake("picked", "You took one token of each segment. The others are to be heard, too.",
                "The mean over the segment.", answer=_means_picked),
        Mistake("class token dropped", "The class token is missing: one segment too few.",
                "torch.cat it in front of the means.", answer=_means_without_class),
        Mistake("class token last", "The class token came out last.",
                "In front, as it came in.", answer=_means_class_last),
    ),
    "low_rank.budget": (
        Mistake("as a share", "This is the share that goes. By what factor is the whole then smaller?",
                "The whole, divided by what is left.", answer=_PRODUCTS / (_PRODUCTS + _LINEAR)),
        Mistake("upside down", "This is what is left, as a share.",
                "Its inverse.", answer=_LINEAR / (_PRODUCTS + _LINEAR)),
        Mistake("maps to queries, keys and values, too", "You let the four linear maps of attention go, too. Linear attention keeps them.",
                "Only 2 N^2 d goes.", answer=(_PRODUCTS + _LINEAR) / (2 / 3 * _LINEAR)),
        Mistake("one product", "There are two products: queries with keys, weights with values.",
                "2 N^2 d.", answer=(_PRODUCTS + _LINEAR) / (_PRODUCTS / 2 + _LINEAR)),
        Mistake("MLP forgotten", "Your block has no MLP, which is most of it.",
                "4 N d^2 + 8 N d^2 stay.", answer=1 + 3 * _PRODUCTS / _LINEAR),
    ),
}
