"""Token pruning: drop the image tokens that matter least (`chapters/dynamic/token_pruning`).

EViT (Liang et al., arXiv 2202.07800) keeps what the class token attends to most and fuses the rest
into one token; without that token it is the plain top-k of Haurum et al. (arXiv 2308.04657).
DynamicViT (`dynamicvit.py`) learns which to keep, ATS (`adaptive_sampling.py`) keeps as many as a
picture needs. In all of them dropped tokens are gone: every later block computes on fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_choice
from ...models.timm_parts import (PlainBlock, ScoredAttention, gather_tokens, has_class_token,
                                  plain_blocks, reads_class_token, token_counts)
from ...models.transforming import Plan, transform, transformed
from ..layers import listed, per_layer, require_layers
from .adaptive_sampling import sampling_blocks
from .choosing import Choose, kept_count, require_share
from .dynamicvit import predictor_blocks

METHODS = ("evit", "topk", "dynamicvit", "ats")
LENGTHS = ("grouped", "padded")
CALLER = "prune_tokens"


class PruningBlock(PlainBlock):
    """A block that drops image tokens between attention and MLP, by its class token's attention."""

    def __init__(self, block: nn.Module, prefix: int, keep_ratio: float, fuse: bool):
        super().__init__(block, ScoredAttention(block.attn), prefix)
        self.choose, self.keep_ratio, self.fuse = Choose(), keep_ratio, fuse

    def forward(self, tokens: Tensor) -> Tensor:
        mixed, row = self.attn(self.norm1(tokens))
        tokens, scores = self.add_attention(tokens, mixed), row[:, self.prefix:]
        count = kept_count(self.keep_ratio, scores.shape[1])
        if count < scores.shape[1]:
            kept = self.choose(scores, count)
            tokens = select_tokens(tokens, scores, kept, self.prefix, self.fuse)
        return self.add_mlp(tokens)


def select_tokens(tokens: Tensor, scores: Tensor, kept: Tensor, prefix: int = 1,
                  fuse: bool = False) -> Tensor:
    """Tokens in front, the image tokens `kept` (batch, k) in that order, and one of all others.

    tokens (batch, prefix + n, dim), scores (batch, n). The token of the others, with `fuse`, is
    their sum weighed by their scores, which are not normalised, as EViT publishes it.
    """
    front, image = tokens[:, :prefix], tokens[:, prefix:]
    parts = [front, gather_tokens(image, kept)]
    if fuse:
        others = scores.scatter(1, kept, 0.0).to(image)
        parts.append(others[:, None] @ image)
    return torch.cat(parts, dim=1)


@plain_numbers
def prune_tokens(model: nn.Module, keep_ratio: float | Sequence[float], layers: Sequence[int],
                 method: str = "evit", fuse: bool = True, lengths: str = "grouped") -> nn.Module:
    """A copy of `model` (the lab's ViT, timm's ViT or DeiT) that drops image tokens in `layers`.

    `layers` are 0-based blocks. `keep_ratio` in (0, 1], one for all layers or one each, is the
    share of the image tokens present that stays, rounded up; tokens in front, such as the class
    token, always stay. `method`: "evit": after the block's attention, by its class attention;
    `fuse` adds one token of the dropped, which later counts as an image token. "topk": the same
    without that token. "dynamicvit": before the block, by a small predictor that has to be trained
    first (`fine_tune`); as published, layer s keeps the share keep_ratio^s of all image tokens,
    rounded down. "ats": inside the block, as many as the picture needs, that share at most;
    `lengths` says how pictures of different lengths go on: "grouped" computes on no padding,
    "padded" on masked padding, with the same result. Raises LabError on shares outside (0, 1],
    layers the model does not have, a missing class token ("evit", "topk", "ats"), blocks that were
    replaced before, and other models.
    """
    plan = {"transform": "prune_tokens", "method": method, "keep_ratio": listed(keep_ratio),
            "layers": listed(layers), "fuse": fuse, "lengths": lengths}
    return transformed(model, plan, apply_token_pruning)


@transform("prune_tokens")
def apply_token_pruning(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace blocks of `model`, in place, as the plan of `prune_tokens` says; returns it."""
    method = plan.get("method")
    for name, allowed in (("method", METHODS), ("lengths", LENGTHS), ("fuse", (True, False))):
        require_choice(CALLER, name, plan.get(name), allowed)
    count, prefix = token_counts(CALLER, model)
    blocks = plain_blocks(CALLER, model)
    ratios = _ratios(plan.get("keep_ratio"), plan.get("layers"), len(blocks) - 1)
    _require_class_token(model, method)
    if method == "dynamicvit":
        replaced = predictor_blocks(blocks, ratios, prefix, count - prefix)
    elif method == "ats":
        replaced = sampling_blocks(blocks, ratios, prefix, plan["lengths"] == "grouped")
    else:
        fuse = plan["fuse"] and method == "evit"
        replaced = {layer: PruningBlock(blocks[layer], prefix, ratio, fuse)
                    for layer, ratio in ratios.items()}
    for layer, block in replaced.items():
        blocks[layer] = block
    return model


def _ratios(keep_ratio: Any, layers: Any, last: int) -> dict[int, float]:
    """The share that each of `layers` keeps, in rising order of layers."""
    layers = require_layers(CALLER, layers, last)
    if layers != sorted(layers):
        raise LabError(f"{CALLER}: layers={layers}; give them rising, each once: {sorted(layers)}")
    ratios = per_layer(CALLER, "keep_ratio", keep_ratio, len(layers))
    return {layer: require_share(CALLER, ratio) for layer, ratio in zip(layers, ratios)}


def _require_class_token(model: nn.Module, method: str) -> None:
    if method != "dynamicvit" and not has_class_token(model):
        raise LabError(f"{CALLER}: {method!r} keeps what the class token attends to, and this "
                       'model has none; give one that has, or method="dynamicvit"')
    if method == "ats" and not reads_class_token(model):
        raise LabError(f"{CALLER}: 'ats' keeps another number of tokens of each picture, and this "
                       "model's head reads their mean; give one whose head reads the class token")
