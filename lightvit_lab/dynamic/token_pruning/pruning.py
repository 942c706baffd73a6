"""Token pruning: drop the image tokens that matter least, as `chapters/dynamic/token_pruning`
derives it.

EViT (Liang et al., arXiv 2202.07800) keeps what the class token attends to most and fuses the rest
into one token; without that token it is the plain top-k of Haurum et al. (arXiv 2308.04657).
DynamicViT (`dynamicvit.py`) learns whom to keep, ATS (`adaptive_sampling.py`) keeps as many as a
picture needs. In all of them dropped tokens are gone: every later block computes on fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_choice
from ...models.timm_parts import (PlainBlock, ScoredAttention, gather_tokens, has_class_token,
                                  plain_blocks, reads_class_token, token_counts)
from ...models.transforming import Plan, transform, transformed
from .adaptive_sampling import Presence, RaggedAttention, RaggedBlock, SamplingAttention, SamplingBlock
from .choosing import Choose, kept_count
from .dynamicvit import Decisions, MaskedAttention, PredictingBlock, WatchingBlock

METHODS = ("evit", "topk", "dynamicvit", "ats")
LENGTHS = ("grouped", "padded")


class PruningBlock(PlainBlock):
    """A block that drops image tokens between its attention and its MLP, by the attention of its
    own class token.
    """

    def __init__(self, block: nn.Module, prefix: int, keep_ratio: float, fuse: bool):
        super().__init__(block, ScoredAttention(block.attn), prefix)
        self.choose, self.keep_ratio, self.fuse = Choose(), keep_ratio, fuse

    def forward(self, tokens: Tensor) -> Tensor:
        mixed, row = self.attn(self.norm1(tokens))
        tokens, scores = self.add_attention(tokens, mixed), row[:, self.prefix :]
        if (count := kept_count(self.keep_ratio, scores.shape[1])) < scores.shape[1]:
            tokens = select_tokens(tokens, scores, self.choose(scores, count), self.prefix, self.fuse)
        return self.add_mlp(tokens)


def select_tokens(tokens: Tensor, scores: Tensor, kept: Tensor, prefix: int = 1,
                  fuse: bool = False) -> Tensor:
    """Tokens in front, the image tokens `kept` (batch, k) in that order, and with `fuse` one token
    of all others.

    tokens (batch, prefix + n, dim), scores (batch, n). The token of the others is their sum weighed
    by their scores, which are not normalised, as EViT publishes it.
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
    """A copy of `model` (the lab's ViT, timm's ViT or DeiT) that drops image tokens in the blocks
    `layers`, 0-based.

    `keep_ratio` in (0, 1], one for all layers or one each, is the share of the image tokens present
    that stays, rounded up; tokens in front, such as the class token, always stay. `method`: "evit":
    after the block's attention, by its class attention; `fuse` adds one token of the dropped, which
    later counts as an image token. "topk": the same without that token. "dynamicvit": before the
    block, by a small predictor that has to be trained first (`dynamicvit.fine_tune`); as published,
    layer s keeps the share keep_ratio^s of all image tokens, rounded down. "ats": inside the block,
    as many as the picture needs, that share at most; `lengths` says how pictures of different
    lengths go on: "grouped" computes on no padding, "padded" on masked padding, with the same
    result. Raises LabError on shares outside (0, 1], layers the model does not have, a missing
    class token ("evit", "topk", "ats"), blocks that were replaced before, and other models.
    """
    layers = list(layers) if isinstance(layers, Sequence | range) else layers
    ratios = list(keep_ratio) if isinstance(keep_ratio, Sequence) else keep_ratio
    plan = {"transform": "prune_tokens", "method": method, "keep_ratio": ratios, "layers": layers, "fuse": fuse,
            "lengths": lengths}
    return transformed(model, plan, apply_token_pruning)


@transform("prune_tokens")
def apply_token_pruning(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace blocks of `model`, in place, as the plan of `prune_tokens` says; returns it."""
    method = plan.get("method")
    require_choice("prune_tokens", "method", method, METHODS)
    require_choice("prune_tokens", "lengths", plan.get("lengths"), LENGTHS)
    require_choice("prune_tokens", "fuse", plan.get("fuse"), (True, False))
    count, prefix = token_counts("prune_tokens", model)
    blocks = plain_blocks("prune_tokens", model)
    ratios = _ratios(plan.get("keep_ratio"), _layers(plan.get("layers"), len(blocks)))
    _require_class_token(model, method)
    make = {"dynamicvit": _predicting, "ats": _sampling}.get(method, _pruning)
    for layer, block in make(blocks, ratios, prefix, count - prefix, plan).items():
        blocks[layer] = block
    return model


def _pruning(blocks: nn.Module, ratios: dict[int, float], prefix: int, patches: int, plan: Plan
             ) -> dict[int, nn.Module]:
    fuse = plan["fuse"] and plan["method"] == "evit"
    return {layer: PruningBlock(blocks[layer], prefix, ratio, fuse) for layer, ratio in ratios.items()}


def _predicting(blocks: nn.Module, ratios: dict[int, float], prefix: int, patches: int, plan: Plan
                ) -> dict[int, nn.Module]:
    decisions, shares = Decisions(), accumulate(ratios.values(), float.__mul__)
    kept = {layer: (share, max(1, math.floor(share * patches + 1e-9))) for layer, share in zip(ratios, shares)}
    made: dict[int, nn.Module] = {}
    for layer in range(min(ratios), len(blocks)):
        block = blocks[layer]
        parts = block, MaskedAttention(block.attn), prefix, decisions
        made[layer] = (PredictingBlock(*parts, *kept[layer], layer == min(ratios)) if layer in kept
                       else WatchingBlock(*parts))
    return made


def _sampling(blocks: nn.Module, ratios: dict[int, float], prefix: int, patches: int, plan: Plan
              ) -> dict[int, nn.Module]:
    made, presence, grouped = {}, Presence(), plan["lengths"] == "grouped"
    for layer in range(min(ratios), len(blocks)):
        block, how = blocks[layer], (prefix, grouped, presence, layer)
        made[layer] = (SamplingBlock(block, SamplingAttention(block.attn, prefix), *how, ratios[layer])
                       if layer in ratios else RaggedBlock(block, RaggedAttention(block.attn), *how))
    return made


def _layers(layers: Any, depth: int) -> list[int]:
    whole = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not whole or layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= depth:
        raise LabError(f"prune_tokens: layers={str(layers)[:80]}, and the model has blocks 0 to {depth - 1}; give some "
                       f"of these, rising, each once, for example layers=({depth // 3}, {2 * depth // 3})")
    return layers


def _ratios(keep_ratio: Any, layers: list[int]) -> dict[int, float]:
    ratios = keep_ratio if isinstance(keep_ratio, list) else [keep_ratio] * len(layers)
    if len(ratios) != len(layers):
        raise LabError(f"prune_tokens: {len(ratios)} keep ratios for {len(layers)} layers; give one for each, or one "
                       "for all")
    for ratio in ratios:
        if type(ratio) not in (int, float) or not 0 < ratio <= 1:
            raise LabError(f"prune_tokens: keep_ratio={ratio!r}; give the share of image tokens to keep, "
                           "0 < keep_ratio <= 1")
    return dict(zip(layers, map(float, ratios)))


def _require_class_token(model: nn.Module, method: str) -> None:
    if method != "dynamicvit" and not has_class_token(model):
        raise LabError(f"prune_tokens: {method!r} keeps what the class token attends to, and this model has none; give "
                       'one that has, or method="dynamicvit", whose predictor looks at the image tokens alone')
    if method == "ats" and not reads_class_token(model):
        raise LabError("prune_tokens: 'ats' leaves each picture another number of tokens, and this model's head reads "
                       "their mean; give a model whose head reads the class token")
