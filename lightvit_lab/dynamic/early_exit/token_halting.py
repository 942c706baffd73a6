"""Tokens that halt: each adds up a score from block to block, and is dropped where it reaches one.

A-ViT (Yin et al., arXiv 2112.07658) after Graves's adaptive computation time (arXiv 1603.08983).
The score needs no weights: it is a sigmoid of the first channel of each token. A-ViT's released
code masks halted tokens; here, in eval mode, they are gone. Pictures then differ in length: those
of one length run together, so that none is padded. Page: chapters/dynamic/early_exit.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import Pictures
from ...errors import LabError, plain_numbers, require_range
from ...models.timm_parts import (embed, finish, has_class_token, masked_block, reads_class_token,
                                  require_plain_blocks, require_plain_vit)
from ...models.transforming import Plan, transform, transformed
from ...runtime.wrapped import unwrapped
from ...training import Batch, History, fit, label_loss

FULL = 0.99       # the sum at which a token halts: one, less a little (arXiv 1603.08983)
LARGEST = 1000.0  # of scale and center; the authors use scales to 100 and centers to 75
Group = tuple[Tensor, Tensor, Tensor]        # pictures (g,), tokens (g, n, dim), sums (g, n)


class Halted(NamedTuple):
    """`logits` (B, classes); `kept` (B, depth), how many tokens of each picture entered a block."""

    logits: Tensor
    kept: Tensor


class Pondered(NamedTuple):
    """What training needs of a pass.

    `logits` (B, classes); `ponder` (), the mean of blocks and remainder over all tokens; `halting`
    (depth,), the mean score of a token at each block, 0 where it runs no more.
    """

    logits: Tensor
    ponder: Tensor
    halting: Tensor


class HaltingViT(nn.Module):
    """`model`, whose tokens halt: inputs -> logits (batch, classes), of a mean over the blocks.

    Each block's class token counts by its halting score, the last by the remainder to one; where
    the class token halts, the picture is done. `model(inputs, ponder=True)` returns a `Pondered`.
    """

    def __init__(self, model: nn.Module, scale: float, center: float):
        super().__init__()
        self.model, self.scale, self.center = model, scale, center
        self.prefix = model.num_prefix_tokens

    @property
    def blocks(self) -> nn.Module:
        """The blocks of the model."""
        return self.model.blocks

    def forward(self, inputs: Tensor, ponder: bool = False) -> Tensor | Pondered:
        if ponder:
            return self.masked(inputs)
        return (self.masked(inputs) if self.training else self.halt(inputs)).logits

    def halting(self, tokens: Tensor) -> Tensor:
        """The scores (B, N), in (0, 1), that tokens (B, N, dim) add up: of their first channel."""
        return (self.scale * tokens[..., 0].float() - self.center).sigmoid()

    def halt(self, inputs: Tensor) -> Halted:
        """Run without the tokens that halted, and without the pictures whose class token did.

        On a GPU each block waits for the device, since lengths have to be known before the next.
        """
        tokens = embed(self.model, inputs)
        mixed = torch.zeros_like(tokens[:, :self.prefix])
        pictures = torch.arange(inputs.shape[0], device=inputs.device)
        kept = pictures.new_zeros(inputs.shape[0], len(self.blocks))
        groups = [(pictures, tokens, tokens.new_zeros(tokens.shape[:2]).float())]
        for place, block in enumerate(self.blocks):
            by_length: dict[int, list[Group]] = defaultdict(list)
            for pictures, tokens, total in groups:
                kept[pictures, place] = tokens.shape[1]
                tokens = block(tokens)
                share, total = self._share(tokens, total, place)
                mixed[pictures] += share[:, :1, None].to(tokens) * tokens[:, :self.prefix]
                self._sort(by_length, (pictures, tokens, total))
            groups = [tuple(map(torch.cat, zip(*parts))) for parts in by_length.values()]
        return Halted(finish(self.model, mixed), kept)

    def masked(self, inputs: Tensor) -> Pondered:
        """The same with all tokens computed, those that halted masked, so that gradients pass."""
        tokens = embed(self.model, inputs)
        total = tokens.new_zeros(tokens.shape[:2]).float()
        mixed, ponder, scores = torch.zeros_like(tokens[:, :self.prefix]), 0, []
        for place, block in enumerate(self.blocks):
            runs = total < FULL
            keys = runs | ~runs[:, :1]      # where the class token halted nothing counts any more
            keys[:, :self.prefix] = True
            tokens = masked_block("token_halting", block, tokens, keys)
            share, after = self._share(tokens, total, place)
            share = share * runs
            ponder = ponder + runs + torch.where(after >= FULL, share, 0.0)
            mixed = mixed + share[:, :1, None].to(tokens) * tokens[:, :self.prefix]
            total = torch.where(runs, after, total)
            scores.append((self.halting(tokens) * runs).mean())
        return Pondered(finish(self.model, mixed), ponder.mean(), torch.stack(scores))

    def _share(self, tokens: Tensor, total: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """What of one each token spends on this block, and the sums after it.

        The last block takes the remainder.
        """
        score = self.halting(tokens)
        last = place == len(self.blocks) - 1
        after = torch.ones_like(total) if last else total + score
        return torch.where(after >= FULL, 1 - total, score), after

    def _sort(self, by_length: dict[int, list[Group]], group: Group) -> None:
        """Put the tokens of `group` that still run where pictures have as many of them.

        Tokens in front run as long as the class token; where that halted, the picture is done.
        """
        pictures, tokens, total = group
        runs = total < FULL
        going = runs[:, 0].clone()
        runs[:, :self.prefix] = True
        lengths = runs.sum(1) * going
        for length in lengths[going].unique().tolist():
            rows = lengths == length
            chosen = runs & rows[:, None]
            parts = (part[chosen].unflatten(0, (-1, length)) for part in (tokens, total))
            by_length[length].append((pictures[rows], *parts))


@plain_numbers
def add_halting(model: nn.Module, scale: float = 10.0, center: float = 30.0) -> HaltingViT:
    """A copy of `model` whose tokens halt; a block adds sigmoid(scale * token[0] - center) to each.

    No weights are added. The authors' values are the defaults, for DeiT-Ti; give a center at which
    nothing halts at first (`scale` times the largest first channel, or more), and `train_halting`.
    Raises LabError on models whose head reads no class token, and on other models than the lab's
    ViT and timm's ViT and DeiT.
    """
    plan = {"transform": "token_halting", "scale": scale, "center": center}
    return transformed(model, plan, apply_halting)


@transform("token_halting")
def apply_halting(model: nn.Module, plan: Plan) -> HaltingViT:
    """Let the tokens of `model` halt as `plan` says: {"scale": 10.0, "center": 30.0}."""
    if "start" in plan:
        raise LabError("add_halting: this model was saved when tokens halted by a linear layer of "
                       "their own, and now they halt by their first channel, as A-ViT's do; make "
                       "it anew: add_halting(model), then train_halting")
    require_plain_vit("add_halting", model)
    require_plain_blocks("add_halting", model)
    if not has_class_token(model) or not reads_class_token(model):
        raise LabError("add_halting: the head of this model reads no class token, whose halting "
                       "ends a picture; give one that does, such as create_model('lab_vit')")
    scale = require_range("add_halting", "scale", plan.get("scale"), 0, LARGEST)
    center = require_range("add_halting", "center", plan.get("center"), -LARGEST, LARGEST)
    return HaltingViT(model, scale, center)


@plain_numbers
@dataclass(frozen=True)
class HaltingObjective:
    """The labels' loss; `ponder` times the mean depth of tokens; `prior` times a divergence.

    The divergence is that of the mean scores of the blocks, divided by their sum, from a normal
    distribution of standard deviation 1 around the 1-based block `depth`, as A-ViT's code takes it
    (of the prior from the scores, over the number of blocks). Weights are the authors', who train
    for 100 epochs; fewer steps want larger ones.
    """

    depth: float = 4.0
    ponder: float = 5e-4
    prior: float = 1e-3

    def __post_init__(self) -> None:
        require_range("HaltingObjective", "depth", self.depth, 1)
        require_range("HaltingObjective", "ponder", self.ponder, 0)
        require_range("HaltingObjective", "prior", self.prior, 0)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        logits, ponder, halting = model(batch.inputs, ponder=True)
        terms = {"labels": label_loss(logits, batch), "ponder": self.ponder * ponder,
                 "prior": self.prior * self._divergence(halting)}
        return sum(terms.values()), logits, terms

    def _divergence(self, halting: Tensor) -> Tensor:
        places = torch.arange(1, len(halting) + 1, device=halting.device)
        prior = (-0.5 * (places - self.depth) ** 2).softmax(0)
        share = (halting / halting.sum().clamp(min=1e-30)).clamp(0.01, 0.99)
        return F.kl_div(share.log(), prior, reduction="batchmean")


def train_halting(model: HaltingViT, data: Pictures, objective: HaltingObjective | None = None,
                  **settings: Any) -> History:
    """Train `model` in place on `data` by `training.fit`, whose `settings` are taken.

    Raises LabError if its tokens do not halt.
    """
    model = unwrapped(model)
    if not isinstance(model, HaltingViT):
        raise LabError(f"train_halting: tokens of {type(model).__name__} do not halt; "
                       "add_halting(model) makes a model whose tokens do")
    return fit(model, data, objective=objective or HaltingObjective(), **settings)
