"""What the exercises of `chapters/dynamic/token_pruning` are tried on."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ... import checkpoint, data, profiling
from ...dynamic.token_pruning import prune_tokens
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def tokens_and_scores(generator: Generator, count: int, kept: int) -> tuple:
    """Image tokens (batch, n, dim), the class token's attention, in sum below 1; how many stay."""
    tokens = torch.randn(2, count, 4, generator=generator)
    return tokens, torch.rand(2, count, generator=generator).add(0.05).mul(0.8 / count), kept


def models(generator: Generator) -> list[tuple]:
    """Width, patches, and of each block the share it keeps; None keeps all.

    Some numbers of tokens are rounded up, some are whole, and some are whole but for float noise:
    0.55 * 100 is 55.00000000000001.
    """
    width, noisy = (torch.randint(4, (2, 2), generator=generator)).tolist()
    share = (0.07, 0.14, 0.55, 0.56)
    return [(8 + width[0], 49, (None, 0.7, None, 0.7)), (12 + width[1], 64, (0.45, 0.7, None)),
            (8 + width[1], 64, (0.5, None, 0.25)), (8, 100, (share[noisy[0]], None)),
            (12 + width[0], 200, (None, 0.5, share[noisy[1]], 0.5))]


def attention_and_mask(generator: Generator, count: int) -> tuple:
    """Scores (batch, heads, n, n), and who is kept, (batch, n) of 0 and 1: some and never all.

    All look most at a token that is gone, and most scores lie below 0. No score is so far below
    that the published eps, 1e-6, would count.
    """
    kept = (torch.rand(2, count, generator=generator) < 0.5).float()
    kept[:, 0], kept[:, 1] = 1, 0
    scores = torch.randn(2, 3, count, count, generator=generator).clamp(-1, 1) - 3
    scores[..., 1] *= torch.eye(count)[1]             # 0, but as drawn where it sees itself
    return scores, kept


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


def on_steps(generator: Generator) -> tuple:
    """Eight scores of 1 and 3, and four draws: each step falls right on a running sum."""
    found = torch.tensor([[1.0, 3.0], [3.0, 1.0]])[torch.randint(2, (4,), generator=generator)]
    return found.flatten(), 8

@cache
def unpruned() -> tuple[nn.Module, int, Tensor, Tensor]:
    """The zoo's model, its MACs, pictures, and what it says of them, (128, classes)."""
    vit = checkpoint.load("zoo:lab_vit_teacher/shapes")
    pictures = data.load("shapes", "val", count=128).inputs
    with torch.no_grad():
        said = vit(pictures).log_softmax(1)
    return vit, profiling.count(vit, (3, 32, 32)).macs, pictures, said


@cache
def moved(*keeps: float) -> tuple[float, float]:
    """Of the zoo's model whose blocks keep these shares: share of the MACs, nats it moves by."""
    vit, macs, pictures, whole = unpruned()
    small = prune_tokens(vit, keeps, range(6), "topk")
    with torch.no_grad():
        now = small(pictures).log_softmax(1)
    left = profiling.count(small, (3, 32, 32)).macs / macs
    return left, (whole.exp() * (whole - now)).sum(1).mean().item()


def judge_schedule(answer: Any) -> tuple[str, str]:
    """Shares of the six blocks: at most 42 % of the MACs, half as far as one block."""
    keeps = numbers(answer, range(6))
    if keeps is None or not all(0 < share <= 1 for share in keeps):
        return "form", "Give six shares, one for each block, each above 0 and at most 1."
    (macs, apart), wanted = moved(*keeps), moved(0.15, 1, 1, 1, 1, 1)[1] / 2
    far = "" if apart <= wanted else "starved" if math.prod(keeps) < 5e-3 else "at once"
    return ("over" if macs > 0.42 else far,
            f"{macs:.1%} of the MACs, at most 42 % are allowed; the answers move by {apart:.4f} "
            f"nats, at most {wanted:.4f} are wanted.")


EXERCISES = (
    Exercise("token_pruning.fused", points=3, minutes=12,
             cases=lambda g: [tokens_and_scores(g, 8, 3), tokens_and_scores(g, 11, 5)]),
    Exercise("token_pruning.macs", points=3, minutes=15, cases=models, tolerance=1e-6),
    Exercise("token_pruning.masked_softmax", points=2, minutes=10, tolerance=1e-4,
             cases=lambda g: [attention_and_mask(g, 5), attention_and_mask(g, 7)]),
    Exercise("token_pruning.straight_through", points=3, minutes=15, prepare=with_slope,
             cases=lambda g: [logits_and_noise(g, 6), logits_and_noise(g, 9)]),
    Exercise("token_pruning.sampling", points=3, minutes=15,
             cases=lambda g: [scores(g, 10, 5), scores(g, 14, 7), on_steps(g)]),
    Exercise("token_pruning.lengths", points=1, minutes=5, digits=2),
    Exercise("token_pruning.schedule", points=3, minutes=15, seconds=60,
             prepare=by_outcome(judge_schedule),
             names={"moved": lambda keeps: moved(*keeps)}),
)

OPEN = (OpenExercise("token_pruning.controls", points=4, minutes=8),)
