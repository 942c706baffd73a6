"""Known wrong answers to the exercises of `chapters/dynamic/token_pruning`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
import torch
from torch import Tensor
from .. import Mistake


def _split(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of the highest scores, highest first, and the scores of all others, 0 at those."""
    kept = scores.topk(count, dim=1).indices
    return kept, scores.scatter(1, kept, 0.0)


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


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


_LENGTHS = (17, 33, 49, 65)


_SQUARES = sum(length**2 for length in _LENGTHS)


MISTAKES = {
    "token_pruning.fused": (
        Mistake("normalised", "Your weights sum to 1. EViT adds the dropped tokens with their scores as they are: what was hardly looked at arrives as hardly anything.",
                "others @ tokens, with nothing divided by others.sum().", answer=_fused_normalised),
        Mistake("plain mean", "You took the mean of the dropped tokens. Some of them were looked at more than others.",
                "Weigh each by its score.", answer=_fused_mean),
        Mistake("all tokens fused", "The fused token holds those that are kept, too: they would count twice.",
                "Set the scores of the kept ones to 0: scores.scatter(1, kept, 0.0).", answer=_fused_all),
        Mistake("kept ones fused", "You fused the tokens that stay. They need no substitute.",
                "Weigh by the scores of those that go.", answer=_fused_kept),
        Mistake("lowest kept", "You kept the lowest scores.",
                "topk gives the highest, unless largest=False.", answer=_fused_lowest),
        Mistake("in the picture's order", "The right tokens, in the order of the picture. We asked for the highest score first, as the library has it.",
                "Leave the order as topk gives it.", answer=_fused_in_order),
        Mistake("nothing fused", "Plain top-k: what goes is lost. Where is the token of the others?",
                "Append one token: (scores of the others) @ tokens.", answer=_fused_left_out),
    ),
    "token_pruning.macs": (
        Mistake("dropped before attention", "In your count tokens are gone before the attention of a pruning block. But it is this attention that says who goes.",
                "Attention on those that enter, the MLP on those that are left.", answer=_macs_before_attention),
        Mistake("dropped after the MLP", "In your count the MLP of a pruning block still sees all tokens. They go between attention and MLP.",
                "8 d^2 for each token that is left.", answer=_macs_after_mlp),
        Mistake("rounded down", "Your counts are rounded down. Shares of tokens are rounded up, so that one always stays.",
                "math.ceil(keep * patches).", answer=_macs_floor),
        Mistake("share of all", "Each of your pruning blocks keeps a share of the whole picture. It is a share of those that reach the block.",
                "Carry the count on from block to block.", answer=_macs_of_all),
        Mistake("no products of tokens", "You have the linear layers. Queries times keys, and weights times values, are missing.",
                "Add 2 N^2 d for each attention.", answer=_macs_linear),
        Mistake("one product of tokens", "Attention multiplies tokens by tokens twice.",
                "Queries by keys, and weights by values: 2 N^2 d.", answer=_macs_once),
        Mistake("class token forgotten", "The class token is computed in every block, too, and is never dropped.",
                "N = patches + 1.", answer=_macs_without_class),
    ),
    "token_pruning.masked_softmax": (
        Mistake("oneself masked", "A token that is dropped cannot see itself in your answer. DynamicViT lets every token see itself: no row is ever empty.",
                "Allow the diagonal: kept[:, None, None].bool() | torch.eye(n).bool().", answer=_softmax_not_oneself),
        Mistake("masked afterwards", "You masked after the softmax: rows no longer sum to 1, and those that are dropped still take their share.",
                "Mask the scores, then take the softmax.", answer=_softmax_then_mask),
        Mistake("zeros in the scores", "You set scores to 0. A score of 0 has weight exp(0), which is 1, before it is normalised.",
                "Fill with -inf, not with 0.", answer=_softmax_of_zeros),
        Mistake("queries masked", "You masked those who look. Those who are gone must not be looked at: they are columns.",
                "kept[:, None, None], not kept[:, None, :, None].", answer=_softmax_queries),
        Mistake("inverted", "You kept the dropped ones, and dropped the kept.",
                "1 stands for kept: mask where kept is 0.", answer=_softmax_inverted),
        Mistake("not masked", "No token is masked here.",
                "Fill the scores of dropped keys with -inf.", answer=_unmasked),
    ),
    "token_pruning.straight_through": (
        Mistake("soft", "These are probabilities between 0 and 1. The mask has to be 0 or 1.",
                "Add hard - soft.detach() to it.", answer=_soft_decision),
        Mistake("no gradient", "Right decisions, and no gradient at all: argmax is flat wherever it does not jump, and soft - soft cancels unless one of them is detached.",
                "hard - soft.detach() + soft.", answer=_hard_decision),
        Mistake("no noise", "You decide without the noise: the same tokens every time, and the others are never tried.",
                "logits + noise, in both decisions.", answer=_without_noise),
        Mistake("dropped in place of kept", "Your mask is 1 for tokens that go.",
                "Entry 0 of the last dimension is keep.", answer=_dropped_instead),
        Mistake("gradient without noise", "You decide with the noise, and differentiate without it.",
                "The softmax takes logits + noise, too.", answer=_noiseless_slope),
    ),
    "token_pruning.sampling": (
        Mistake("top-k", "These are the highest scores. They are as many in every picture.",
                "Walk along the running sum in even steps, and take the token in which each step falls.", answer=_sampled_top),
        Mistake("drawn twice", "A token in which two steps fall stands here twice. It stays once: that is why pictures keep different numbers.",
                "unique().", answer=_sampled_twice),
        Mistake("left ends", "Your steps begin at 0. They lie in the middle of even parts.",
                "(2 k + 1) / (2 K) for k = 0 to K - 1.", answer=_sampled_left_ends),
        Mistake("not normalised", "Your running sum does not end at 1.",
                "Divide the scores by their sum.", answer=_sampled_not_normalised),
        Mistake("one later", "Each of your places is one too far.",
                "The first place whose running sum reaches the step: torch.searchsorted(sums, steps).", answer=_sampled_one_later),
        Mistake("in another order", "You sorted the scores first, so that your places are those of a sorted list, not of the picture.",
                "The running sum goes in the picture's order.", answer=_sampled_sorted),
    ),
    "token_pruning.lengths": (
        Mistake("linear layers", "Right for the linear layers. The products of attention grow with the square of the tokens.",
                "Square each length before you add.", answer=4 * 65 / sum(_LENGTHS)),
        Mistake("the wrong way round", "This is what is left without padding, as a share.",
                "Padded over grouped.", answer=_SQUARES / (4 * 65**2)),
        Mistake("share wasted", "This is the share of products that is wasted.",
                "We asked for how many times as many there are.", answer=1 - _SQUARES / (4 * 65**2)),
        Mistake("square of the sums", "You squared the ratio of the sums. Each picture attends to itself alone.",
                "4 * 65**2 over 17**2 + 33**2 + 49**2 + 65**2.", answer=(4 * 65 / sum(_LENGTHS)) ** 2),
    ),
}
