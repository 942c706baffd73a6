"""Known wrong answers to the exercises of `chapters/dynamic/token_merging`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from .. import Mistake


def _likeness(metric: Tensor) -> Tensor:
    unit = F.normalize(metric, dim=-1)
    return unit[::2] @ unit[1::2].T


def _chosen(likeness: Tensor, r: int, descending: bool = True) -> Tensor:
    """(r, 2): numbers in A and in B of the r best pairs."""
    best, partner = likeness.max(dim=1)
    going = best.argsort(descending=descending)[:r]
    return torch.stack([going, partner[going]], dim=1)


def _pairs(metric: Tensor, r: int) -> Tensor:
    return 2 * _chosen(_likeness(metric), r) + torch.tensor([0, 1])


def _pairs_by_product(metric: Tensor, r: int) -> Tensor:
    return 2 * _chosen(metric[::2] @ metric[1::2].T, r) + torch.tensor([0, 1])


def _pairs_least_alike(metric: Tensor, r: int) -> Tensor:
    return 2 * _chosen(_likeness(metric), r, descending=False) + torch.tensor([0, 1])


def _pairs_within_sets(metric: Tensor, r: int) -> Tensor:
    return _chosen(_likeness(metric), r)


def _pairs_swapped(metric: Tensor, r: int) -> Tensor:
    return _pairs(metric, r).flip(1)


def _pairs_of_halves(metric: Tensor, r: int) -> Tensor:
    unit, half = F.normalize(metric, dim=-1), len(metric) // 2
    return _chosen(unit[:half] @ unit[half:].T, r) + torch.tensor([0, half])


def _pairs_asked_by_b(metric: Tensor, r: int) -> Tensor:
    return 2 * _chosen(_likeness(metric).T, r) + torch.tensor([1, 0])


def _sums(values: Tensor, places: Tensor) -> Tensor:
    """(N, d) and (N,) -> (M, d): what belongs together, summed."""
    return torch.zeros(int(places.max()) + 1, values.shape[1]).index_add(0, places, values)


def _merged(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens * sizes[:, None], places) / _sums(sizes[:, None], places)


def _merged_once_each(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens, places) / _sums(torch.ones_like(sizes)[:, None], places)


def _merged_not_divided(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens * sizes[:, None], places)


def _merged_by_count(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens * sizes[:, None], places) / _sums(torch.ones_like(sizes)[:, None], places)


def _merged_by_all(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens * sizes[:, None], places) / sizes.sum()


def _merged_inversely(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _merged(tokens, 1 / sizes, places)


def _merged_unweighted_sum(tokens: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    return _sums(tokens, places) / _sums(sizes[:, None], places)


def _heavy_forgotten(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1]**0.5).softmax(dim=1) @ value


def _heavy_without_log(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1]**0.5 + sizes).softmax(dim=1) @ value


def _heavy_times_scores(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1]**0.5 * sizes).softmax(dim=1) @ value


def _heavy_queries(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1]**0.5).softmax(dim=1) * sizes[:, None] @ value


def _heavy_not_normalised(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return (query @ key.T / key.shape[1]**0.5).softmax(dim=1) * sizes @ value


def _heavy_log_scaled(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    return ((query @ key.T + sizes.log()) / key.shape[1]**0.5).softmax(dim=1) @ value


def _places_of_second(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tokens[second]


def _places_of_first(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tokens[first.clamp(max=len(tokens) - 1)]


def _places_swapped(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tokens[first[second].clamp(max=len(tokens) - 1)]


def _places_only_once(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Each token at the first of its patches; zeros at the others."""
    places, rows = second[first], torch.zeros(len(first), tokens.shape[1])
    for token in range(len(tokens)):
        rows[(places == token).nonzero()[0, 0]] = tokens[token]
    return rows


def _places_shared(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Each patch gets its share of the token."""
    places = second[first]
    return (tokens / torch.bincount(places, minlength=len(tokens))[:, None])[places]


_WHOLE, _ALWAYS, _MATCHING, _FEWER = 40.0, 10.0, 3.0, 1.7          # ms, ms, ms, times fewer MACs


MISTAKES = {
    "token_merging.match": (
        Mistake("by product", "You compared by dot products: a long key is then like everybody. The matching compares directions.",
                "Normalise first: F.normalize(metric, dim=-1).", answer=_pairs_by_product),
        Mistake("least alike", "These are the pairs that have least in common.",
                "Sort by likeness, falling.", answer=_pairs_least_alike),
        Mistake("numbers within the sets", "The right pairs, but numbered within A and B. We asked for the numbers of the tokens.",
                "Token 2 i is the i-th of A, token 2 i + 1 the i-th of B.", answer=_pairs_within_sets),
        Mistake("columns swapped", "The right pairs, the wrong way round: first the one that goes, from A, then the one that it goes into.",
                "torch.stack([going, into], dim=1).", answer=_pairs_swapped),
        Mistake("two halves", "Your A is the first half and B the second. Neighbours, which are alike most often, are then in the same set and never meet.",
                "Alternate: metric[::2], metric[1::2].", answer=_pairs_of_halves),
        Mistake("asked by B", "Every token of B looks for its like in A here. It is A that asks, and A that goes.",
                "likeness (A, B), its maximum over dim=1.", answer=_pairs_asked_by_b),
    ),
    "token_merging.mean": (
        Mistake("each once", "You counted each token once. One that stands for five patches should count five times, or early merges fade.",
                "Weigh by sizes.", answer=_merged_once_each),
        Mistake("not divided", "This is the weighted sum. It grows with every merge, and nobody trained the MLP for such tokens.",
                "Divide by the sum of the sizes.", answer=_merged_not_divided),
        Mistake("divided by how many", "You divided by the number of tokens. The weights were sizes, so that does not make a mean.",
                "Divide by the sum of the sizes in each.", answer=_merged_by_count),
        Mistake("divided by all", "You divided by the patches of the whole picture.",
                "By those that go into this token alone.", answer=_merged_by_all),
        Mistake("inversely", "Small tokens count most here.",
                "Times size, not divided by it.", answer=_merged_inversely),
        Mistake("sizes below alone", "The sizes stand below the line, but not above it.",
                "Multiply each token by its size before you sum.", answer=_merged_unweighted_sum),
    ),
    "token_merging.log_size": (
        Mistake("sizes forgotten", "This is plain attention: five patches that merged have one voice from now on.",
                "Add log size to the scores.", answer=_heavy_forgotten),
        Mistake("no log", "You added the size. Inside the softmax that multiplies by e to the size: seven patches would count a thousandfold.",
                "e^(x + log s) = s e^x.", answer=_heavy_without_log),
        Mistake("times the scores", "You multiplied the scores. A large token whose score is negative would then be heard less.",
                "Sizes multiply behind the exponential: add their log.", answer=_heavy_times_scores),
        Mistake("sizes of who asks", "The sizes are those of the queries here. A large token is to be heard more, not to hear more.",
                "One number a column, not a row.", answer=_heavy_queries),
        Mistake("not normalised", "The weights of a row no longer sum to 1.",
                "Bring the sizes in before the softmax, as a log.", answer=_heavy_not_normalised),
        Mistake("log divided, too", "The log was divided by the root of the width along with the products. Then it counts for less than the patches do.",
                "Divide first, then add.", answer=_heavy_log_scaled),
    ),
    "token_merging.unmerge": (
        Mistake("second merge alone", "You undid the second merge alone.",
                "second says where the M tokens are. Where are the N patches? first knows in which of the M.", answer=_places_of_second),
        Mistake("first merge alone", "You undid the first merge alone; but its numbers are those of tokens before the second.",
                "Look them up: second[first].", answer=_places_of_first),
        Mistake("the wrong order", "You asked the second merge first, then the first. A patch meets them the other way round.",
                "Inner brackets first: where the patch went in the first merge.", answer=_places_swapped),
        Mistake("only once", "Each token came back in one place. All the patches that went into it get it.",
                "Index with (N,) numbers; no scatter is needed.", answer=_places_only_once),
        Mistake("shared out", "You shared each token out among its patches. It is their mean, not their sum: each gets it whole.",
                "Do not divide.", answer=_places_shared),
    ),
    "token_merging.tokens_left": (
        Mistake("never clamped", "65 minus six times 14. Nobody can merge more tokens than there are.",
                "No block merges more than half of its image tokens.", answer=-19),
        Mistake("no class token", "These are the image tokens. One more never merges.",
                "Add the class token.", answer=3),
        Mistake("rounded up", "You let an odd number lose its larger half. Then a pair would have one member.",
                "Of eleven tokens five can go, of three only one.", answer=2),
        Mistake("one block too few", "This is what is left after five blocks.",
                "One more block, which halves.", answer=7),
        Mistake("over half", "Your fourth block merged 14 of 22 image tokens, and the next ones nothing. Each block merges at most half.",
                "The fourth merges 11 of 22, the fifth 5 of 11.", answer=9),
        Mistake("three halvings forgotten", "You merged nothing any more once 14 would have been over half.",
                "From then on each block halves the image tokens.", answer=23),
    ),
    "token_merging.time_gain": (
        Mistake("gain in MACs", "This is the gain in MACs. A quarter of the time does not follow them.",
                "Only 40 - 10 ms are divided by 1.7.", answer=_FEWER),
        Mistake("matching is free", "The matching itself takes time, too.",
                "Add its 3 ms.", answer=_WHOLE / (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER)),
        Mistake("all of it shrinks", "You divided all 40 ms. Ten of them stay as they are.",
                "10 + 30 / 1.7 + 3.", answer=_WHOLE / (_WHOLE / _FEWER + _MATCHING)),
        Mistake("the wrong way round", "This is the share of the time that is left. We asked how many times as fast.",
                "Old by new.", answer=(_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER + _MATCHING) / _WHOLE),
        Mistake("new time", "These are the milliseconds that it takes now.",
                "Divide the old 40 by them.", answer=_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER + _MATCHING),
        Mistake("matching subtracted", "Matching costs time, it gives none.",
                "Plus 3 ms, not minus.", answer=_WHOLE / (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER - _MATCHING)),
    ),
}
