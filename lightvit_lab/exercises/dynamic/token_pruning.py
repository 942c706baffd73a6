"""What the exercises of `chapters/dynamic/token_pruning` are tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import torch
from torch import Tensor

from ..declaration import Exercise


def _tokens_and_scores(generator: torch.Generator) -> list[tuple]:
    """Image tokens (batch, n, dim), the class token's attention to them, in sum below 1, and how
    many stay.
    """
    return [(torch.randn(2, count, 4, generator=generator),
             torch.rand(2, count, generator=generator).add(0.05).mul(0.8 / count), kept)
            for count, kept in ((8, 3), (11, 5))]


def _some_models(generator: torch.Generator) -> list[tuple]:
    """Width, patches, and of each block the share it keeps; None keeps all."""
    del generator
    return [(8, 49, (None, 0.7, None, 0.7)), (12, 64, (0.45, 0.7, None))]


def _attention_and_mask(generator: torch.Generator) -> list[tuple]:
    """Scores (batch, heads, n, n), and who is kept, (batch, n) of 0 and 1: some and never all."""
    cases = []
    for count in (5, 7):
        kept = (torch.rand(2, count, generator=generator) < 0.5).float()
        kept[:, 0], kept[:, 1] = 1, 0
        cases.append((2 * torch.randn(2, 3, count, count, generator=generator), kept))
    return cases


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


EXERCISES = (
    Exercise("token_pruning.fused", points=3, minutes=12, cases=_tokens_and_scores),
    Exercise("token_pruning.macs", points=3, minutes=15, cases=_some_models, tolerance=1e-6),
    Exercise("token_pruning.masked_softmax", points=2, minutes=10, cases=_attention_and_mask),
    Exercise("token_pruning.straight_through", points=3, minutes=15, cases=_logits_and_noise, prepare=_with_slope),
    Exercise("token_pruning.sampling", points=3, minutes=15, cases=_scores),
    Exercise("token_pruning.lengths", points=1, minutes=5, tolerance=2e-3),
)
