"""Checks of the exercises in `chapters/compression/low_rank`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine import Exercise, Mistake

Thin = tuple[Tensor, Tensor, Tensor]
_TOKENS, _DIM = 65, 96                                   # of the lab's teacher
# MACs of attention's two products in a block
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


def _as_one_layer(answer: Callable[..., Thin]) -> Callable[..., tuple[int, Tensor, Tensor]]:
    """The rank, the product and the bias of the two thin layers: what does not hang on how the
    answer splits them.
    """
    def used(weight: Tensor, bias: Tensor, rank: int) -> tuple[int, Tensor, Tensor]:
        first, second, kept = answer(weight, bias, rank)
        return len(first), second @ first, kept
    return used


def _layers(generator: torch.Generator) -> list[tuple]:
    """Weights of several shapes, biases and a rank below the full one, in float64."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(draw(out, into), draw(out), rank) for out, into, rank in ((7, 5, 2), (5, 8, 3), (12, 6, 2))]


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


def _spectra(generator: torch.Generator) -> list[tuple]:
    """Singular values, falling about as those of whitened weights do, and a share of their energy."""
    found = []
    for count, fall, energy in ((24, 0.93, 0.9), (30, 0.95, 0.8), (40, 0.97, 0.85), (36, 0.96, 0.7)):
        wobble = 1 + 0.1 * torch.rand(count, generator=generator, dtype=torch.float64)
        found.append(((fall ** torch.arange(count) * wobble).sort(descending=True).values, energy))
    return found


def _cut(matrix: Tensor, rank: int) -> Tensor:
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    return up[:, :rank] * values[:rank] @ down[:rank]


def _whitened(weight: Tensor, moment: Tensor, rank: int) -> Tensor:
    root = torch.linalg.cholesky(moment)
    return _cut(weight @ root, rank) @ torch.linalg.inv(root)


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


def _inputs(generator: torch.Generator) -> list[tuple]:
    """A weight, the second moment of correlated inputs, and a rank, in float64."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = []
    for out, into, rank in ((9, 6, 2), (5, 8, 3), (10, 7, 3)):
        seen = draw(60, into) @ draw(into, into) + draw(into)
        found.append((draw(out, into), seen.T @ seen / len(seen), rank))
    return found


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


def _keys(generator: torch.Generator) -> list[tuple]:
    """Keys (B, heads, tokens, head_dim) of rank ** 2 tokens: all but the first divide by rank - 1,
    and all by rank.
    """
    return [(torch.randn(batch, 2, rank**2, 3, generator=generator), rank) for batch, rank in ((2, 3), (1, 4), (2, 5))]


EXERCISES = (
    Exercise(
        id="low_rank.break_even", points=1, minutes=4, solution=153, cases=None,
        prompt="Up to which rank do two thin layers save parameters of a layer from 192 to 768?", mistakes=(
            Mistake("full rank", 192, "At this rank one of the two thin layers is as large as the whole layer was, and "
                    "the other comes on top.", "Both count: rank * (192 + 768) against 192 * 768."),
            Mistake("rounded up", 154, "Just beyond: 154 * 960 is more than 192 * 768.", "Round down."),
            Mistake("not rounded", 153.6, "There the two break even. A rank is a whole number.",
                    "The largest whole number below it."),
            Mistake("square", 96, "Half of the full rank is the break-even of a square matrix. This one is four times "
                    "as wide as high.", "192 * 768 / (192 + 768)."),
            Mistake("harmonic mean", 307, "This is the harmonic mean of the two widths, twice what we look for, and "
                    "more than the matrix has.", "m n / (m + n), without the factor 2."),
        )),
    Exercise(
        id="low_rank.factors", points=2, minutes=10, solution=_thin, cases=_layers, prepare=_as_one_layer,
        prompt="Two thin layers in place of one, by the singular value decomposition", mistakes=(
            Mistake("singular values forgotten", _thin_without_values, "Your layers turn and turn back, but nothing "
                    "stretches: the singular values are missing.", "Multiply the rows of one factor by values[:rank]."),
            Mistake("singular values twice", _thin_values_twice, "Both of your layers carry the singular values, so "
                    "that large directions come out far too large.", "Give them to one layer, or their roots to both."),
            Mistake("the smallest", _thin_from_below, "You kept the smallest singular values: the worst layer of this "
                    "rank, not the best.", "torch sorts them with the largest first: [:rank]."),
            Mistake("not transposed", _thin_transposed, "You took columns of Vh. torch.linalg.svd gives the transposed "
                    "matrix, whose rows are the directions in the input.", "The first layer is made of Vh[:rank]."),
            Mistake("bias dropped", _thin_bias_dropped, "The weights are right. Where is the bias?",
                    "The second layer has it, as it was."),
            Mistake("bias in the middle", _thin_bias_in_the_middle, "Your bias went through the second layer, which "
                    "has only `rank` directions left for it.", "Leave it out of the first layer; the second one adds "
                    "it, whole."),
            Mistake("nothing left out", _thin_whole, "The layer is the same as before, at the full rank.",
                    "Keep `rank` rows of one factor and as many columns of the other."),
            Mistake("swapped", _thin_swapped, "The layers have changed places.", "The first has shape (rank, in), "
                    "the second (out, rank)."),
        )),
    Exercise(
        id="low_rank.energy", points=2, minutes=8, solution=_rank, cases=_spectra,
        prompt="The smallest rank that keeps a share of the energy", mistakes=(
            Mistake("not squared", _rank_unsquared, "You summed the singular values. Energy is the sum of their "
                    "squares, since the error is one, too.", "values.square() first."),
            Mistake("one short", _rank_one_short, "One too few: what you keep stays below the share.",
                    "Count the ranks that are not yet enough, and take one more."),
            Mistake("share of the count", _rank_of_count, "This is a share of the number of singular values. The first "
                    "ones hold far more than their share.", "Compare the running sum of squares with its total."),
            Mistake("share of the length", _rank_of_length, "You compared the root of the energy. That is the share of "
                    "the norm.", "No root: sum of squares over sum of squares."),
            Mistake("from below", _rank_from_below, "You began with the smallest.",
                    "They come with the largest first; leave the order."),
            Mistake("by size", _rank_by_size, "You kept what is not much smaller than the largest one. Many small ones "
                    "may hold much together.", "Sum up."),
            Mistake("what goes", _rank_removed, "This is how many are left out.", "How many stay?"),
        )),
    Exercise(
        id="low_rank.whitened", points=3, minutes=15, solution=_whitened, cases=_inputs, tolerance=1e-6,
        prompt="The best weight of a rank for inputs of a second moment", mistakes=(
            Mistake("plain", _whitened_not_at_all, "This is the best approximation of the weight. For inputs that "
                    "favour some directions it is not the best for the output.",
                    "Decompose weight @ S in place of weight."),
            Mistake("not undone", _whitened_not_undone, "This expects inputs that were whitened before. Ours come as "
                    "they are.", "Multiply by the inverse of S on the same side."),
            Mistake("moment for its root", _whitened_by_moment, "You weighed the directions by the second moment "
                    "itself. The error is a square, and the moment is one, too.",
                    "S is a root of it: S @ S.T = moment."),
            Mistake("the wrong way round", _whitened_backwards, "You divided by the root first and multiplied "
                    "afterwards: directions that never occur count most.", "weight @ S, and the inverse afterwards."),
            Mistake("root transposed", _whitened_transposed, "Your root is transposed: S @ S.T is not the moment then.",
                    "torch.linalg.cholesky gives the lower root L with L @ L.T = moment: take it as it is."),
            Mistake("diagonal", _whitened_diagonal, "You weighed each input by its size. Inputs move together, and "
                    "that stands beside the diagonal.", "The whole root, torch.linalg.cholesky(moment)."),
            Mistake("wrong side", _whitened_wrong_side, "S meets the outputs' side of the weight. It belongs to the "
                    "inputs.", "A weight is (out, in): weight @ S."),
        )),
    Exercise(
        id="low_rank.segments", points=2, minutes=8, solution=_means, cases=_keys,
        prompt="Keys as means of segments, the class token on its own", mistakes=(
            Mistake("class token averaged in", _means_of_all, "The class token disappears in the first segment. It "
                    "holds what the head will read.", "Leave keys[:, :, :1] as it is; average the others."),
            Mistake("strided", _means_strided, "Your segments take every so many tokens from all over the picture. "
                    "Neighbours are alike.", "unflatten(2, (rank - 1, -1)), then the mean over dimension 3."),
            Mistake("summed", _means_summed, "Sums grow with the segments, and so would the logits.", "mean, not sum."),
            Mistake("picked", _means_picked, "You took one token of each segment. The others are to be heard, too.",
                    "The mean over the segment."),
            Mistake("class token dropped", _means_without_class, "The class token is missing: one segment too few.",
                    "torch.cat it in front of the means."),
            Mistake("class token last", _means_class_last, "The class token came out last.",
                    "In front, as it came in."),
        )),
    Exercise(
        id="low_rank.budget", points=1, minutes=6, solution=1 + _PRODUCTS / _LINEAR, cases=None, tolerance=2e-3,
        prompt="How many times fewer MACs has a block whose attention products cost nothing?", mistakes=(
            Mistake("as a share", _PRODUCTS / (_PRODUCTS + _LINEAR), "This is the share that goes. By what factor is "
                    "the whole then smaller?", "The whole, divided by what is left."),
            Mistake("upside down", _LINEAR / (_PRODUCTS + _LINEAR), "This is what is left, as a share.",
                    "Its inverse."),
            Mistake("maps to queries, keys and values, too",
                    (_PRODUCTS + _LINEAR) / (2 / 3 * _LINEAR), "You let the four linear maps of attention go, too. "
                    "Linear attention keeps them.", "Only 2 N^2 d goes."),
            Mistake("one product", (_PRODUCTS + _LINEAR) / (_PRODUCTS / 2 + _LINEAR), "There are two products: queries "
                    "with keys, weights with values.", "2 N^2 d."),
            Mistake("MLP forgotten", 1 + 3 * _PRODUCTS / _LINEAR, "Your block has no MLP, which is most of it.",
                    "4 N d^2 + 8 N d^2 stay."),
        )),
)
