"""Adaptive token sampling: as many tokens as a picture needs (ATS, arXiv 2111.15667).

Pictures of one batch then have different lengths. Between blocks they lie one under the other in a
frame, filled up with zeros, and a mask that the blocks share says which tokens are present. A block
takes these out of the frame and computes on them alone; only in attention must pictures stay apart,
and those of equal length go through it together. On a GPU each block waits for the device, since
lengths have to be known before memory is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError
from ...models.timm_parts import LastPass, PlainAttention, PlainBlock, gather_tokens
from ...runtime.full_precision import full_precision
from ...runtime.running import double
from .choosing import Choose


class Presence(LastPass):
    """Which tokens were present in the last forward pass, shared by the blocks of one model.

    `masks`: (batch, n) behind each block that samples, by that block's place. One pass at a time:
    no threads on one model. Copies of a model start without.
    """

    def __init__(self) -> None:
        self.masks: dict[int, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Presence:
        return Presence()

    def behind(self, tokens: Tensor) -> Tensor:
        """Which of `tokens` (batch, n, dim) are present, (batch, n): all where no block sampled."""
        if self.masks:
            return self.masks[max(self.masks)]
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def entering(self, place: int, tokens: Tensor) -> Tensor:
        """Which of `tokens` (batch, n, dim) are present as they enter block `place`, (batch, n).

        The masks of later blocks are of the pass before, and forgotten. Raises LabError where
        tokens or pictures were dropped elsewhere.
        """
        self.masks = {block: mask for block, mask in self.masks.items() if block < place}
        mask = self.behind(tokens)
        if mask.shape != tokens.shape[:2]:
            raise LabError(f"prune_tokens: block {place} was given {tuple(tokens.shape[:2])} "
                           "pictures and tokens, the block before gave out "
                           f"{tuple(mask.shape)}; let nothing else drop them, or call "
                           "token_pruning.drop_pictures(model, gone)")
        return mask


def presence(model: nn.Module) -> Presence:
    """What the blocks of `model` share; an empty one where no block samples."""
    blocks = (part for part in model.modules() if isinstance(part, RaggedBlock))
    return next((block.presence for block in blocks), Presence())


def present_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Which tokens (batch, n, dim) behind the last block of `model`, just run, are present."""
    return presence(model).behind(tokens)


def drop_pictures(model: nn.Module, gone: Tensor) -> None:
    """Tell the blocks of `model` that the pictures `gone` (batch,) left in the middle of a pass."""
    shared = presence(model)
    shared.masks = {place: mask[~gone] for place, mask in shared.masks.items()
                    if len(mask) == len(gone)}                # others are of the pass before


class RaggedAttention(PlainAttention):
    """Attention inside each picture, of packed tokens: (present tokens, dim) in and out.

    `present` (batch, n) says where in the frame they stand; tokens that fill the frame, (batch, n,
    dim), go through as they are, or with `present` as a mask.
    """

    @full_precision
    def weights(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """The attention weights, (batch, heads, N, N), rows summing to 1."""
        if tokens.ndim == 2:
            tokens = unpacked(tokens, present)
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float(), _pairs(present))

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        if tokens.ndim == 3:
            return self.join(self.mix(*self.split_heads(tokens), _pairs(present)))
        counts = present.sum(dim=1)
        starts, qkv = counts.cumsum(0) - counts, self.qkv(tokens)
        mixed = torch.empty_like(qkv[:, :qkv.shape[1] // 3])
        for count in counts.unique().tolist():
            rows = torch.arange(count, device=tokens.device)
            rows = starts[counts == count][:, None] + rows                 # (pictures, count)
            mixed[rows] = self.mix(*self.heads_of(qkv[rows])).transpose(1, 2).flatten(2)
        return self.project(mixed)


class RaggedBlock(PlainBlock):
    """A block on pictures of different lengths; `grouped` False computes on the masked frame.

    So does train mode, since what drops whole pictures at random needs the frame. `place` is its
    number among the blocks of the model, which share `presence`.
    """

    def __init__(self, block: nn.Module, attention: RaggedAttention, prefix: int, grouped: bool,
                 presence: Presence, place: int):
        super().__init__(block, attention, prefix)
        self.grouped, self.presence, self.place = grouped, presence, place

    def forward(self, tokens: Tensor) -> Tensor:
        present = unless_all(self.presence.entering(self.place, tokens))

        def compute(part: Tensor) -> Tensor:
            return self.add_mlp(self.add_attention(part, self.attn(self.norm1(part), present)))

        return self.on_present(tokens, present, compute)

    def on_present(self, tokens: Tensor, present: Tensor | None,
                   compute: Callable[[Tensor], Tensor]) -> Tensor:
        """What `compute` makes of the tokens present, zero elsewhere; None: all are present."""
        if present is None:
            return compute(tokens)
        if self.training or not self.grouped:
            return compute(tokens) * present[..., None]
        return unpacked(compute(tokens[present]), present)


class SamplingAttention(RaggedAttention):
    """Attention whose queries are only the tokens it samples, as `SamplingBlock` says."""

    def __init__(self, attention: nn.Module, prefix: int):
        super().__init__(attention)
        self.prefix = prefix

    def weights(self, tokens: Tensor, present: Tensor, choose: Sample, keep_ratio: float) -> Tensor:
        """The attention weights before any token goes, (batch, heads, N, N), rows summing to 1."""
        return super().weights(tokens, present)

    def forward(self, tokens: Tensor, present: Tensor, choose: Sample,
                keep_ratio: float) -> tuple[Tensor, Tensor]:
        """Tokens (batch, n, dim) -> what is added to those sampled, (batch, m, dim), and places.

        Places are (batch, m), -1 behind the last of a picture that keeps fewer than m.
        """
        query, key, value = self.split_heads(tokens)
        mask = _pairs(unless_all(present))
        row = self.weigh(query[:, :, :1], key, mask)[:, :, 0]
        scores = (row * value.float().norm(dim=-1)).sum(dim=1)[:, self.prefix:]
        places = choose(scores, present[:, self.prefix:], keep_ratio)
        front = torch.arange(self.prefix, device=places.device).expand(places.shape[0], -1)
        places = torch.cat([front, places.where(places < 0, places + self.prefix)], dim=1)
        index = places.clamp(min=0)[:, None, :, None]
        query = query.gather(2, index.expand(-1, query.shape[1], -1, query.shape[-1]))
        return self.join(self.mix(query, key, value, mask)), places


class SamplingBlock(RaggedBlock):
    """A block whose attention answers only for sampled tokens; the others are gone from here on.

    A token's score is the class token's attention to it times the length of its value, added up
    over heads. Of a picture with n image tokens K = ceil(keep_ratio n) are drawn at the even
    quantiles (2k - 1) / 2K of the scores; a token drawn twice stays once, so a picture whose scores
    lie on few tokens keeps few.
    """

    def __init__(self, *parts: Any, keep_ratio: float):
        super().__init__(*parts)
        self.choose, self.keep_ratio = Sample(), keep_ratio

    def forward(self, tokens: Tensor) -> Tensor:
        present = self.presence.entering(self.place, tokens)
        mixed, places = self.attn(self.norm1(tokens), present, self.choose, self.keep_ratio)
        present = self.presence.masks[self.place] = places >= 0
        tokens = self.add_attention(gather_tokens(tokens, places.clamp(min=0)), mixed)
        return self.on_present(tokens, unless_all(present), self.add_mlp)


class Sample(Choose):
    """Scores (batch, n) of tokens `present` (batch, n) -> places (batch, m), rising, then -1."""

    def forward(self, scores: Tensor, present: Tensor, keep_ratio: float) -> Tensor:
        home, scores = scores.device, double(scores)
        present = present.to(scores.device)
        shares = scores * present
        rising = (shares / shares.sum(dim=1, keepdim=True)).cumsum(dim=1)
        counts = (keep_ratio * present.sum(dim=1, keepdim=True).double() - 1e-9).ceil()
        steps = torch.arange(int(counts.max()), device=scores.device).minimum(counts - 1)
        places = torch.searchsorted(rising, (2 * steps + 1) / (2 * counts))
        drawn = torch.zeros_like(present).scatter(1, places.clamp(max=scores.shape[1] - 1), True)
        order = drawn.int().argsort(dim=1, descending=True, stable=True)
        order = order[:, :int(drawn.sum(dim=1).max())]
        return order.where(drawn.gather(1, order), -1).to(home)


def sampling_blocks(blocks: nn.Module, ratios: dict[int, float], prefix: int,
                    grouped: bool) -> dict[int, RaggedBlock]:
    """Blocks to put in place of `blocks`; those of `ratios` (layer -> share kept) sample tokens."""
    replaced, presence = {}, Presence()
    for layer in range(min(ratios), len(blocks)):
        block, rest = blocks[layer], (prefix, grouped, presence, layer)
        if layer in ratios:
            attention = SamplingAttention(block.attn, prefix)
            replaced[layer] = SamplingBlock(block, attention, *rest, keep_ratio=ratios[layer])
        else:
            replaced[layer] = RaggedBlock(block, RaggedAttention(block.attn), *rest)
    return replaced


def unpacked(packed: Tensor, present: Tensor) -> Tensor:
    """(present tokens, dim) in their frame (batch, n, dim); zero where none is `present`."""
    frame = packed.new_zeros(*present.shape, packed.shape[-1])
    frame[present] = packed
    return frame


def unless_all(present: Tensor) -> Tensor | None:
    """`present` (batch, n), or None where all tokens are: then attention needs no mask."""
    return None if present.all() else present


def _pairs(present: Tensor | None) -> Tensor | None:
    """The mask for every head and query, (batch, 1, 1, n)."""
    return None if present is None else present[:, None, None]
