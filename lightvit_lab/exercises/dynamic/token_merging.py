"""Checks of the exercises in `chapters/dynamic/token_merging`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine import Exercise, Mistake


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


def _some_keys(generator: torch.Generator) -> list[tuple]:
    """Keys (tokens, dim), an even number of tokens, of very different lengths, and r."""
    return [(torch.randn(count, 3, generator=generator) * (0.2 + 4 * torch.rand(count, 1, generator=generator)), r)
            for count, r in ((12, 4), (20, 7))]


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


def _some_tokens(generator: torch.Generator) -> list[tuple]:
    """Tokens (N, d), sizes (N,) as numbers of patches, and into which of M each goes."""
    cases = []
    for count, left in ((6, 3), (11, 4)):
        places = torch.cat([torch.arange(left), torch.randint(left, (count - left,), generator=generator)])
        sizes = torch.randint(1, 6, (count,), generator=generator).float()
        sizes[0], sizes[left:] = 7.0, sizes[left:] + torch.arange(count - left)
        cases.append((torch.randn(count, 3, generator=generator), sizes, places))
    return cases


def _heavy(query: Tensor, key: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
    scores = query @ key.T / key.shape[1]**0.5
    return (scores + sizes.log()).softmax(dim=1) @ value


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


def _one_head(generator: torch.Generator) -> list[tuple]:
    """Queries, keys, values (N, d) of one head, and sizes (N,) from 1 on."""
    return [(*(torch.randn(count, dim, generator=generator) for _ in range(3)),
             1.0 + torch.randperm(count, generator=generator).float()) for count, dim in ((5, 4), (8, 9))]


def _places_of_all(tokens: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tokens[second[first]]


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


def _two_merges(generator: torch.Generator) -> list[tuple]:
    """Tokens (L, d) that are left, and the places of two merges, (N,) numbers below M and (M,)
    numbers below L.
    """
    cases = []
    for many, some, few in ((12, 7, 4), (20, 11, 5)):
        first = torch.cat([torch.arange(some), torch.randint(some, (many - some,), generator=generator)])
        second = torch.cat([torch.arange(few), torch.randint(few, (some - few,), generator=generator)])
        cases.append((torch.randn(few, 3, generator=generator), first[torch.randperm(many, generator=generator)],
                      second.flip(0)))
    return cases


_WHOLE, _ALWAYS, _MATCHING, _FEWER = 40.0, 10.0, 3.0, 1.7          # ms, ms, ms, times fewer MACs

EXERCISES = (
    Exercise(
        id="token_merging.match", points=3, minutes=12, solution=_pairs, cases=_some_keys,
        prompt="The r pairs that bipartite soft matching merges", mistakes=(
            Mistake("by product", _pairs_by_product, "You compared by dot products: a long key is then like everybody. "
                    "The matching compares directions.", "Normalise first: F.normalize(metric, dim=-1)."),
            Mistake("least alike", _pairs_least_alike, "These are the pairs that have least in common.",
                    "Sort by likeness, falling."),
            Mistake("numbers within the sets", _pairs_within_sets, "The right pairs, but numbered within A and B. We "
                    "asked for the numbers of the tokens.", "Token 2 i is the i-th of A, token 2 i + 1 the i-th of B."),
            Mistake("columns swapped", _pairs_swapped, "The right pairs, the wrong way round: first the one that goes, "
                    "from A, then the one that it goes into.", "torch.stack([going, into], dim=1)."),
            Mistake("two halves", _pairs_of_halves, "Your A is the first half and B the second. Neighbours, which are "
                    "alike most often, are then in the same set and never meet.",
                    "Alternate: metric[::2], metric[1::2]."),
            Mistake("asked by B", _pairs_asked_by_b, "Every token of B looks for its like in A here. It is A that asks, and "
                    "A that goes.", "likeness (A, B), its maximum over dim=1."),
        )),
    Exercise(
        id="token_merging.mean", points=2, minutes=10, solution=_merged, cases=_some_tokens,
        prompt="Merge tokens into the mean of their patches", mistakes=(
            Mistake("each once", _merged_once_each, "You counted each token once. One that stands for five patches "
                    "should count five times, or early merges fade.", "Weigh by sizes."),
            Mistake("not divided", _merged_not_divided, "This is the weighted sum. It grows with every merge, and "
                    "nobody trained the MLP for such tokens.", "Divide by the sum of the sizes."),
            Mistake("divided by how many", _merged_by_count, "You divided by the number of tokens. The weights were "
                    "sizes, so that does not make a mean.", "Divide by the sum of the sizes in each."),
            Mistake("divided by all", _merged_by_all, "You divided by the patches of the whole picture.",
                    "By those that go into this token alone."),
            Mistake("inversely", _merged_inversely, "Small tokens count most here.", "Times size, not divided by it."),
            Mistake("sizes below alone", _merged_unweighted_sum, "The sizes stand below the line, but not above it.",
                    "Multiply each token by its size before you sum."),
        )),
    Exercise(
        id="token_merging.log_size", points=2, minutes=10, solution=_heavy, cases=_one_head,
        prompt="Attention in which a token of size s draws as much as s tokens like it", mistakes=(
            Mistake("sizes forgotten", _heavy_forgotten, "This is plain attention: five patches that merged have one "
                    "voice from now on.", "Add log size to the scores."),
            Mistake("no log", _heavy_without_log, "You added the size. Inside the softmax that multiplies by e to the "
                    "size: seven patches would count a thousandfold.", "e^(x + log s) = s e^x."),
            Mistake("times the scores", _heavy_times_scores, "You multiplied the scores. A large token whose score is "
                    "negative would then be heard less.", "Sizes multiply behind the exponential: add their log."),
            Mistake("sizes of who asks", _heavy_queries, "The sizes are those of the queries here. A large token is "
                    "to be heard more, not to hear more.", "One number a column, not a row."),
            Mistake("not normalised", _heavy_not_normalised, "The weights of a row no longer sum to 1.",
                    "Bring the sizes in before the softmax, as a log."),
            Mistake("log divided, too", _heavy_log_scaled, "The log was divided by the root of the width along with "
                    "the products. Then it counts for less than the patches do.", "Divide first, then add."),
        )),
    Exercise(
        id="token_merging.unmerge", points=2, minutes=8, solution=_places_of_all, cases=_two_merges,
        prompt="Give every patch its token back after two merges", mistakes=(
            Mistake("second merge alone", _places_of_second, "You undid the second merge alone.",
                    "second says where the M tokens are. Where are the N patches? first knows in which of the M."),
            Mistake("first merge alone", _places_of_first, "You undid the first merge alone; but its numbers are those "
                    "of tokens before the second.", "Look them up: second[first]."),
            Mistake("the wrong order", _places_swapped, "You asked the second merge first, then the first. A patch "
                    "meets them the other way round.",
                    "Inner brackets first: where the patch went in the first merge."),
            Mistake("only once", _places_only_once, "Each token came back in one place. All the patches that went into "
                    "it get it.", "Index with (N,) numbers; no scatter is needed."),
            Mistake("shared out", _places_shared, "You shared each token out among its patches. It is their mean, not "
                    "their sum: each gets it whole.", "Do not divide."),
        )),
    Exercise(
        id="token_merging.tokens_left", points=1, minutes=6, solution=4, cases=None,
        prompt="How many tokens are left after six blocks?", mistakes=(
            Mistake("never clamped", -19, "65 minus six times 14. Nobody can merge more tokens than there are.",
                    "No block merges more than half of its image tokens."),
            Mistake("no class token", 3, "These are the image tokens. One more never merges.", "Add the class token."),
            Mistake("rounded up", 2, "You let an odd number lose its larger half. Then a pair would have one member.",
                    "Of eleven tokens five can go, of three only one."),
            Mistake("one block too few", 7, "This is what is left after five blocks.", "One more block, which halves."),
            Mistake("over half", 9, "Your fourth block merged 14 of 22 image tokens, and the next ones nothing. Each "
                    "block merges at most half.", "The fourth merges 11 of 22, the fifth 5 of 11."),
            Mistake("three halvings forgotten", 23, "You merged nothing any more once 14 would have been over half.",
                    "From then on each block halves the image tokens."),
        )),
    Exercise(
        id="token_merging.time_gain", points=2, minutes=8, tolerance=5e-3, cases=None,
        solution=_WHOLE / (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER + _MATCHING),
        prompt="From fewer MACs to a gain in time", mistakes=(
            Mistake("gain in MACs", _FEWER, "This is the gain in MACs. A quarter of the time does not follow them.",
                    "Only 40 - 10 ms are divided by 1.7."),
            Mistake("matching is free", _WHOLE / (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER), "The matching itself takes "
                    "time, too.", "Add its 3 ms."),
            Mistake("all of it shrinks", _WHOLE / (_WHOLE / _FEWER + _MATCHING), "You divided all 40 ms. Ten of them "
                    "stay as they are.", "10 + 30 / 1.7 + 3."),
            Mistake("the wrong way round", (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER + _MATCHING) / _WHOLE, "This is the "
                    "share of the time that is left. We asked how many times as fast.", "Old by new."),
            Mistake("new time", _ALWAYS + (_WHOLE - _ALWAYS) / _FEWER + _MATCHING, "These are the milliseconds that it "
                    "takes now.", "Divide the old 40 by them."),
            Mistake("matching subtracted", _WHOLE / (_ALWAYS + (_WHOLE - _ALWAYS) / _FEWER - _MATCHING), "Matching "
                    "costs time, it gives none.", "Plus 3 ms, not minus."),
        )),
)
