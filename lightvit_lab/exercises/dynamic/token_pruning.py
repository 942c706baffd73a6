"""What the exercises of `chapters/dynamic/token_pruning` are tried on."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..declaration import Exercise


def tokens_and_scores(generator: Generator, count: int, kept: int) -> tuple:
    """Image tokens (batch, n, dim), the class token's attention, in sum below 1; how many stay."""
    tokens = torch.randn(2, count, 4, generator=generator)
    return tokens, torch.rand(2, count, generator=generator).add(0.05).mul(0.8 / count), kept


def attention_and_mask(generator: Generator, count: int) -> tuple:
    """Scores (batch, heads, n, n), and who is kept, (batch, n) of 0 and 1: some and never all."""
    kept = (torch.rand(2, count, generator=generator) < 0.5).float()
    kept[:, 0], kept[:, 1] = 1, 0
    return 2 * torch.randn(2, 3, count, count, generator=generator), kept


def with_slope(answer: Callable) -> Callable:
    """Decides, and sends a gradient of 1, 2, 3, ... back to the logits; 0 where none arrives."""
    def both(logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            logits = logits.detach().clone().requires_grad_()
            decided = answer(logits, noise)
            if decided.requires_grad:
                decided.backward(torch.arange(1.0, decided.numel() + 1).view_as(decided))
        return decided.detach(), torch.zeros_like(logits) if logits.grad is None else logits.grad
    return both


def logits_and_noise(generator: Generator, count: int) -> tuple:
    """Logits of keep and drop (batch, n, 2), and Gumbel noise that turns some decisions round."""
    logits = torch.randn(2, count, 2, generator=generator)
    noise = -(-torch.rand(2, count, 2, generator=generator).clamp(1e-6, 1 - 1e-6).log()).log()
    logits[0, :2], noise[0, :2] = torch.eye(2), torch.tensor([[0.0, 2.0], [2.5, 0.0]])
    return logits, noise


def scores(generator: Generator, count: int, draws: int) -> tuple:
    """Scores (n,), in sum above 1, one so large that it is drawn more than once; how many draws."""
    found = torch.rand(count, generator=generator) + 0.2
    found[4] = 6.0
    return found, draws


# width, patches, and of each block the share it keeps; None keeps all
MODELS = [(8, 49, (None, 0.7, None, 0.7)), (12, 64, (0.45, 0.7, None))]

EXERCISES = (
    Exercise("token_pruning.fused", points=3, minutes=12,
             cases=lambda g: [tokens_and_scores(g, 8, 3), tokens_and_scores(g, 11, 5)]),
    Exercise("token_pruning.macs", points=3, minutes=15, cases=lambda _: MODELS, tolerance=1e-6),
    Exercise("token_pruning.masked_softmax", points=2, minutes=10,
             cases=lambda g: [attention_and_mask(g, 5), attention_and_mask(g, 7)]),
    Exercise("token_pruning.straight_through", points=3, minutes=15, prepare=with_slope,
             cases=lambda g: [logits_and_noise(g, 6), logits_and_noise(g, 9)]),
    Exercise("token_pruning.sampling", points=3, minutes=15,
             cases=lambda g: [scores(g, 10, 5), scores(g, 14, 7)]),
    Exercise("token_pruning.lengths", points=1, minutes=5, tolerance=2e-3),
)
