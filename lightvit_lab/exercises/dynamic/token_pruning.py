"""Checks of the exercises in `chapters/dynamic/token_pruning`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..engine import Exercise, Mistake


def _split(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of the highest scores, highest first, and the scores of all others, 0 at those."""
    kept = scores.topk(count, dim=1).indices
    return kept, scores.scatter(1, kept, 0.0)


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def _fused(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, others = _split(scores, count)
    return torch.cat([_at(tokens, kept), others[:, None] @ tokens], dim=1)


def _fused_normalised(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, others = _split(scores, count)
    return torch.cat([_at(tokens, kept), (others / others.sum(1, keepdim=True))[:, None] @ tokens], dim=1)


def _fused_mean(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, others = _split(scores, count)
    dropped = (others > 0).to(tokens)
    return torch.cat([_at(tokens, kept), (dropped / dropped.sum(1, keepdim=True))[:, None] @ tokens], dim=1)


def _fused_all(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, _ = _split(scores, count)
    return torch.cat([_at(tokens, kept), scores[:, None] @ tokens], dim=1)


def _fused_kept(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, others = _split(scores, count)
    return torch.cat([_at(tokens, kept), (scores - others)[:, None] @ tokens], dim=1)


def _fused_lowest(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept = scores.topk(count, dim=1, largest=False).indices
    return torch.cat([_at(tokens, kept), scores.scatter(1, kept, 0.0)[:, None] @ tokens], dim=1)


def _fused_in_order(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    kept, others = _split(scores, count)
    return torch.cat([_at(tokens, kept.sort(dim=1).values), others[:, None] @ tokens], dim=1)


def _fused_left_out(tokens: Tensor, scores: Tensor, count: int) -> Tensor:
    return _at(tokens, _split(scores, count)[0])


def _tokens_and_scores(generator: torch.Generator) -> list[tuple]:
    """Image tokens (batch, n, dim), the class token's attention to them, in sum below 1, and how
    many stay.
    """
    return [(torch.randn(2, count, 4, generator=generator),
             torch.rand(2, count, generator=generator).add(0.05).mul(0.8 / count), kept)
            for count, kept in ((8, 3), (11, 5))]


def _macs(dim: int, patches: int, keeps: Sequence[float | None],
          count: Callable[[float, int], int] | None = None,
          attention: Callable[[int, int], int] = lambda tokens, left: tokens,
          mlp: Callable[[int, int],
                        int] = lambda tokens, left: left, squares: int = 2, prefix: int = 1) -> int:
    """Of all blocks: four d x d products and two of tokens by tokens in attention, eight d x d in
    the MLP.
    """
    total = 0
    for keep in keeps:
        left = patches if keep is None else (count or _ceil)(keep, patches)
        mixing, rest = attention(patches, left) + prefix, mlp(patches, left) + prefix
        total += 4 * mixing * dim**2 + squares * mixing**2 * dim + 8 * rest * dim**2
        patches = left
    return total


def _ceil(keep: float, present: int) -> int:
    return math.ceil(keep * present - 1e-9)


def _pruned_macs(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps)


def _macs_before_attention(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, attention=lambda tokens, left: left)


def _macs_after_mlp(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, mlp=lambda tokens, left: tokens)


def _macs_floor(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, count=lambda keep, present: int(keep * present))


def _macs_of_all(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    """The share of all patches of the picture in each pruning block, so that only the first one
    drops any.
    """
    return _macs(dim, patches, keeps, count=lambda keep, present: _ceil(keep, patches))


def _macs_linear(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, squares=0)


def _macs_once(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, squares=1)


def _macs_without_class(dim: int, patches: int, keeps: Sequence[float | None]) -> int:
    return _macs(dim, patches, keeps, prefix=0)


def _some_models(generator: torch.Generator) -> list[tuple]:
    """Width, patches, and of each block the share it keeps; None keeps all."""
    del generator
    return [(8, 49, (None, 0.7, None, 0.7)), (12, 64, (0.45, 0.7, None))]


def _softmax(scores: Tensor, kept: Tensor) -> Tensor:
    seen = kept[:, None, None].bool() | torch.eye(scores.shape[-1], dtype=torch.bool)
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)


def _softmax_not_oneself(scores: Tensor, kept: Tensor) -> Tensor:
    return scores.masked_fill(kept[:, None, None] == 0, -torch.inf).softmax(dim=-1)


def _softmax_then_mask(scores: Tensor, kept: Tensor) -> Tensor:
    seen = torch.maximum(kept[:, None, None], torch.eye(scores.shape[-1]))
    return scores.softmax(dim=-1) * seen


def _softmax_of_zeros(scores: Tensor, kept: Tensor) -> Tensor:
    seen = torch.maximum(kept[:, None, None], torch.eye(scores.shape[-1]))
    return (scores * seen).softmax(dim=-1)


def _softmax_queries(scores: Tensor, kept: Tensor) -> Tensor:
    """Masks who looks, where it is who is looked at that is gone."""
    seen = kept[:, None, :, None].bool() | torch.eye(scores.shape[-1], dtype=torch.bool)
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)


def _softmax_inverted(scores: Tensor, kept: Tensor) -> Tensor:
    return _softmax(scores, 1 - kept)


def _unmasked(scores: Tensor, kept: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


def _attention_and_mask(generator: torch.Generator) -> list[tuple]:
    """Scores (batch, heads, n, n), and who is kept, (batch, n) of 0 and 1: some and never all."""
    cases = []
    for count in (5, 7):
        kept = (torch.rand(2, count, generator=generator) < 0.5).float()
        kept[:, 0], kept[:, 1] = 1, 0
        cases.append((2 * torch.randn(2, 3, count, count, generator=generator), kept))
    return cases


def _straight_through(logits: Tensor, noise: Tensor) -> Tensor:
    soft = (logits + noise).softmax(dim=-1)[..., 0]
    hard = ((logits + noise).argmax(dim=-1) == 0).float()
    return hard - soft.detach() + soft


def _soft_decision(logits: Tensor, noise: Tensor) -> Tensor:
    return (logits + noise).softmax(dim=-1)[..., 0]


def _hard_decision(logits: Tensor, noise: Tensor) -> Tensor:
    return ((logits + noise).argmax(dim=-1) == 0).float()


def _without_noise(logits: Tensor, noise: Tensor) -> Tensor:
    return _straight_through(logits, torch.zeros_like(noise))


def _dropped_instead(logits: Tensor, noise: Tensor) -> Tensor:
    return _straight_through(logits.flip(-1), noise.flip(-1))


def _noiseless_slope(logits: Tensor, noise: Tensor) -> Tensor:
    soft = logits.softmax(dim=-1)[..., 0]
    return _hard_decision(logits, noise) - soft.detach() + soft


def _with_slope(answer: Callable[[Tensor, Tensor],
                                 Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Decides, and lets a gradient of 1, 2, 3, ... at the decisions flow back to the logits; 0
    where none arrives.
    """
    def both(logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            logits = logits.detach().clone().requires_grad_()
            decided = answer(logits, noise)
            if decided.requires_grad:
                upstream = torch.arange(1.0, decided.numel() + 1).view_as(decided)
                decided.backward(upstream)
        slope = torch.zeros_like(logits) if logits.grad is None else logits.grad
        return decided.detach(), slope
    return both


def _logits_and_noise(generator: torch.Generator) -> list[tuple]:
    """Logits of keep and drop (batch, n, 2), and Gumbel noise for them that turns some decisions
    round.
    """
    cases = []
    for count in (6, 9):
        logits = torch.randn(2, count, 2, generator=generator)
        noise = -(-torch.rand(2, count, 2, generator=generator).clamp(1e-6, 1 - 1e-6).log()).log()
        logits[0, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        noise[0, :2] = torch.tensor([[0.0, 2.0], [2.5, 0.0]])
        cases.append((logits, noise))
    return cases


def _sampled(scores: Tensor, count: int) -> Tensor:
    rising = (scores / scores.sum()).cumsum(0)
    steps = (2 * torch.arange(count) + 1) / (2 * count)
    return torch.searchsorted(rising, steps).unique()


def _sampled_top(scores: Tensor, count: int) -> Tensor:
    return scores.topk(count).indices.sort().values


def _sampled_twice(scores: Tensor, count: int) -> Tensor:
    rising = (scores / scores.sum()).cumsum(0)
    return torch.searchsorted(rising, (2 * torch.arange(count) + 1) / (2 * count))


def _sampled_left_ends(scores: Tensor, count: int) -> Tensor:
    return torch.searchsorted((scores / scores.sum()).cumsum(0), torch.arange(count) / count).unique()


def _sampled_not_normalised(scores: Tensor, count: int) -> Tensor:
    return torch.searchsorted(scores.cumsum(0), (2 * torch.arange(count) + 1) / (2 * count)).unique()


def _sampled_one_later(scores: Tensor, count: int) -> Tensor:
    """Counts the tokens whose sum is reached, itself with them: the place after."""
    return _sampled(scores, count) + 1


def _sampled_sorted(scores: Tensor, count: int) -> Tensor:
    """Places in the order of scores, not in the picture."""
    return _sampled(scores.sort(descending=True).values, count)


def _scores(generator: torch.Generator) -> list[tuple]:
    """Scores (n,), which sum to more than 1, one of them so large that it is drawn more than once;
    how many draws.
    """
    cases = []
    for count, draws in ((10, 5), (14, 7)):
        scores = torch.rand(count, generator=generator).add(0.2)
        scores[4] = 6.0
        cases.append((scores, draws))
    return cases


_LENGTHS = (17, 33, 49, 65)
_SQUARES = sum(length**2 for length in _LENGTHS)

EXERCISES = (
    Exercise(
        id="token_pruning.fused", points=3, minutes=12, solution=_fused, cases=_tokens_and_scores,
        prompt="Keep the highest scores, and fuse all other tokens into one", mistakes=(
            Mistake("normalised", _fused_normalised, "Your weights sum to 1. EViT adds the dropped tokens with their "
                    "scores as they are: what was hardly looked at arrives as hardly anything.",
                    "others @ tokens, with nothing divided by others.sum()."),
            Mistake("plain mean", _fused_mean, "You took the mean of the dropped tokens. Some of them were looked at "
                    "more than others.", "Weigh each by its score."),
            Mistake("all tokens fused", _fused_all, "The fused token holds those that are kept, too: they would "
                    "count twice.", "Set the scores of the kept ones to 0: scores.scatter(1, kept, 0.0)."),
            Mistake("kept ones fused", _fused_kept, "You fused the tokens that stay. They need no substitute.",
                    "Weigh by the scores of those that go."),
            Mistake("lowest kept", _fused_lowest, "You kept the lowest scores.",
                    "topk gives the highest, unless largest=False."),
            Mistake("in the picture's order", _fused_in_order, "The right tokens, in the order of the picture. We "
                    "asked for the highest score first, as the library has it.", "Leave the order as topk gives it."),
            Mistake("nothing fused", _fused_left_out, "Plain top-k: what goes is lost. Where is the token of the "
                    "others?", "Append one token: (scores of the others) @ tokens."),
        )),
    Exercise(
        id="token_pruning.macs", points=3, minutes=15, solution=_pruned_macs, cases=_some_models, tolerance=1e-6,
        prompt="MACs of all blocks when some of them drop tokens between attention and MLP", mistakes=(
            Mistake("dropped before attention", _macs_before_attention, "In your count tokens are gone before the "
                    "attention of a pruning block. But it is this attention that says who goes.",
                    "Attention on those that enter, the MLP on those that are left."),
            Mistake("dropped after the MLP", _macs_after_mlp, "In your count the MLP of a pruning block still sees all "
                    "tokens. They go between attention and MLP.", "8 d^2 for each token that is left."),
            Mistake("rounded down", _macs_floor, "Your counts are rounded down. Shares of tokens are rounded up, so "
                    "that one always stays.", "math.ceil(keep * patches)."),
            Mistake("share of all", _macs_of_all, "Each of your pruning blocks keeps a share of the whole picture. It "
                    "is a share of those that reach the block.", "Carry the count on from block to block."),
            Mistake("no products of tokens", _macs_linear, "You have the linear layers. Queries times keys, and "
                    "weights times values, are missing.", "Add 2 N^2 d for each attention."),
            Mistake("one product of tokens", _macs_once, "Attention multiplies tokens by tokens twice.",
                    "Queries by keys, and weights by values: 2 N^2 d."),
            Mistake("class token forgotten", _macs_without_class, "The class token is computed in every block, too, "
                    "and is never dropped.", "N = patches + 1."),
        )),
    Exercise(
        id="token_pruning.masked_softmax", points=2, minutes=10, solution=_softmax, cases=_attention_and_mask,
        prompt="Attention weights as if tokens were gone, while they are still there", mistakes=(
            Mistake("oneself masked", _softmax_not_oneself, "A token that is dropped cannot see itself in your answer. "
                    "DynamicViT lets every token see itself: no row is ever empty.",
                    "Allow the diagonal: kept[:, None, None].bool() | torch.eye(n).bool()."),
            Mistake("masked afterwards", _softmax_then_mask, "You masked after the softmax: rows no longer sum to 1, "
                    "and those that are dropped still take their share.", "Mask the scores, then take the softmax."),
            Mistake("zeros in the scores", _softmax_of_zeros, "You set scores to 0. A score of 0 has weight exp(0), "
                    "which is 1, before it is normalised.", "Fill with -inf, not with 0."),
            Mistake("queries masked", _softmax_queries, "You masked those who look. Those who are gone must not be "
                    "looked at: they are columns.", "kept[:, None, None], not kept[:, None, :, None]."),
            Mistake("inverted", _softmax_inverted, "You kept the dropped ones, and dropped the kept.",
                    "1 stands for kept: mask where kept is 0."),
            Mistake("not masked", _unmasked, "No token is masked here.", "Fill the scores of dropped keys with -inf."),
        )),
    Exercise(
        id="token_pruning.straight_through", points=3, minutes=15, solution=_straight_through,
        cases=_logits_and_noise, prepare=_with_slope,
        prompt="A hard decision with the gradient of a soft one", mistakes=(
            Mistake("soft", _soft_decision, "These are probabilities between 0 and 1. The mask has to be 0 or 1.",
                    "Add hard - soft.detach() to it."),
            Mistake("no gradient", _hard_decision, "Right decisions, and no gradient at all: argmax is flat wherever "
                    "it does not jump, and soft - soft cancels unless one of them is detached.",
                    "hard - soft.detach() + soft."),
            Mistake("no noise", _without_noise, "You decide without the noise: the same tokens every time, and the "
                    "others are never tried.", "logits + noise, in both decisions."),
            Mistake("dropped in place of kept", _dropped_instead, "Your mask is 1 for tokens that go.",
                    "Entry 0 of the last dimension is keep."),
            Mistake("gradient without noise", _noiseless_slope, "You decide with the noise, and differentiate without "
                    "it.", "The softmax takes logits + noise, too."),
        )),
    Exercise(
        id="token_pruning.sampling", points=3, minutes=15, solution=_sampled, cases=_scores,
        prompt="Draw tokens at even steps of the running sum of their scores", mistakes=(
            Mistake("top-k", _sampled_top, "These are the highest scores. They are as many in every picture.",
                    "Walk along the running sum in even steps, and take the token in which each step falls."),
            Mistake("drawn twice", _sampled_twice, "A token in which two steps fall stands here twice. It stays once: "
                    "that is why pictures keep different numbers.", "unique()."),
            Mistake("left ends", _sampled_left_ends, "Your steps begin at 0. They lie in the middle of even parts.",
                    "(2 k + 1) / (2 K) for k = 0 to K - 1."),
            Mistake("not normalised", _sampled_not_normalised, "Your running sum does not end at 1.",
                    "Divide the scores by their sum."),
            Mistake("one later", _sampled_one_later, "Each of your places is one too far.",
                    "The first place whose running sum reaches the step: torch.searchsorted(sums, steps)."),
            Mistake("in another order", _sampled_sorted, "You sorted the scores first, so that your places are those "
                    "of a sorted list, not of the picture.", "The running sum goes in the picture's order."),
        )),
    Exercise(
        id="token_pruning.lengths", points=1, minutes=5, solution=4 * 65**2 / _SQUARES, cases=None, tolerance=2e-3,
        prompt="Products of attention on a padded frame, over those on the tokens that are there", mistakes=(
            Mistake("linear layers", 4 * 65 / sum(_LENGTHS), "Right for the linear layers. The products of attention "
                    "grow with the square of the tokens.", "Square each length before you add."),
            Mistake("the wrong way round", _SQUARES / (4 * 65**2), "This is what is left without padding, as a share.",
                    "Padded over grouped."),
            Mistake("share wasted", 1 - _SQUARES / (4 * 65**2), "This is the share of products that is wasted.",
                    "We asked for how many times as many there are."),
            Mistake("square of the sums", (4 * 65 / sum(_LENGTHS)) ** 2, "You squared the ratio of the sums. Each "
                    "picture attends to itself alone.", "4 * 65**2 over 17**2 + 33**2 + 49**2 + 65**2."),
        )),
)
