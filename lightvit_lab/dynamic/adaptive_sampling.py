"""Adaptive token sampling: as many tokens as a picture needs (ATS, Fayyaz et al., arXiv 2111.15667).

Pictures of one batch then have different lengths. Between blocks they lie side by side, filled up with tokens that are
exactly zero, which no token of a picture ever is. A block takes the tokens that are there out of this frame and
computes on them alone; only in attention must pictures stay apart, and those of equal length go through it together.
On a GPU each block waits for the device, since lengths have to be known before memory is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..runtime.running import double
from ..models.timm_parts import HeldAttention, HeldBlock, gather_tokens
from ..runtime.full_precision import full_precision
from .choosing import Choose


def present_tokens(tokens: Tensor) -> Tensor:
    """Which of the tokens (batch, n, dim) are there, (batch, n)."""
    return (tokens != 0).any(dim=-1)


class RaggedAttention(HeldAttention):
    """Attention inside each picture, of tokens packed one after the other: (present tokens, dim) in and out.

    `present` (batch, n) says where in the frame they stand; tokens that fill the frame, (batch, n, dim), go through
    as they are, or with `present` as a mask.
    """

    @full_precision
    def weights(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Where tokens look, (batch, heads, N, N), rows summing to 1."""
        if tokens.ndim == 2:
            tokens = unpacked(tokens, present)
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float(), None if present is None else present[:, None, None])

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        if tokens.ndim == 3:
            return self.join(self.mix(*self.split_heads(tokens), None if present is None else present[:, None, None]))
        counts = present.sum(dim=1)
        starts, qkv = counts.cumsum(0) - counts, self.qkv(tokens)
        mixed = torch.empty_like(qkv[:, : qkv.shape[1] // 3])
        for count in counts.unique().tolist():
            rows = starts[counts == count][:, None] + torch.arange(count, device=tokens.device)      # (pictures, count)
            mixed[rows] = self.mix(*self.heads_of(qkv[rows])).transpose(1, 2).flatten(2)
        return self.project(mixed)


class RaggedBlock(HeldBlock):
    """A block on pictures of different lengths; `grouped` False computes on the whole frame, masked, in its place.

    In train mode it always does, since what drops whole pictures at random counts on the frame.
    """

    def __init__(self, block: nn.Module, attention: RaggedAttention, prefix: int, grouped: bool):
        super().__init__(block, attention, prefix)
        self.grouped = grouped

    def forward(self, tokens: Tensor) -> Tensor:
        present = present_tokens(tokens)
        if present.all():
            return self.add_mlp(self.add_attention(tokens, self.attn(self.norm1(tokens))))
        if self.training or not self.grouped:
            tokens = self.add_mlp(self.add_attention(tokens, self.attn(self.norm1(tokens), present)))
            return tokens * present[..., None]
        packed = tokens[present]
        packed = self.add_mlp(self.add_attention(packed, self.attn(self.norm1(packed), present)))
        return unpacked(packed, present)


class SamplingAttention(RaggedAttention):
    """Attention that answers only for the tokens it samples; see `SamplingBlock`."""

    def __init__(self, attention: nn.Module, prefix: int):
        super().__init__(attention)
        self.prefix = prefix

    def weights(self, tokens: Tensor, present: Tensor, choose: Sample, keep_ratio: float) -> Tensor:
        """Where tokens look before any goes, (batch, heads, N, N), rows summing to 1."""
        return super().weights(tokens, present)

    def forward(self, tokens: Tensor, present: Tensor, choose: Sample, keep_ratio: float) -> tuple[Tensor, Tensor]:
        """Tokens (batch, n, dim) -> what is added to those sampled, (batch, longest, dim), and their places or -1."""
        query, key, value = self.split_heads(tokens)
        mask = None if present.all() else present[:, None, None]
        row = self.weigh(query[:, :, :1], key, mask)[:, :, 0]
        scores = (row * value.float().norm(dim=-1)).sum(dim=1)[:, self.prefix :]
        places = choose(scores, present[:, self.prefix :], keep_ratio)
        front = torch.arange(self.prefix, device=places.device).expand(places.shape[0], -1)
        places = torch.cat([front, places.where(places < 0, places + self.prefix)], dim=1)
        asking = places.clamp(min=0)[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[-1])
        return self.join(self.mix(query.gather(2, asking), key, value, mask)), places


class SamplingBlock(RaggedBlock):
    """A block whose attention answers only for sampled tokens; the others are gone from here on.

    A token's score is the class token's attention to it times the length of its value, added up over heads. Of a
    picture with n image tokens K = ceil(keep_ratio n) are drawn at the even quantiles (2k - 1) / 2K of the scores;
    a token drawn twice stays once, so a picture whose scores lie on few tokens keeps few.
    """

    def __init__(self, block: nn.Module, attention: SamplingAttention, prefix: int, grouped: bool, keep_ratio: float):
        super().__init__(block, attention, prefix, grouped)
        self.choose, self.keep_ratio = Sample(), keep_ratio

    def forward(self, tokens: Tensor) -> Tensor:
        mixed, places = self.attn(self.norm1(tokens), present_tokens(tokens), self.choose, self.keep_ratio)
        there = places >= 0
        tokens = self.add_attention(gather_tokens(tokens, places.clamp(min=0)), mixed)
        if there.all():
            return self.add_mlp(tokens)
        if self.training or not self.grouped:
            return self.add_mlp(tokens) * there[..., None]
        return unpacked(self.add_mlp(tokens[there]), there)


class Sample(Choose):
    """Scores (batch, n) of the tokens `present` (batch, n) -> places (batch, longest), rising, -1 behind the last."""

    def forward(self, scores: Tensor, present: Tensor, keep_ratio: float) -> Tensor:
        home, scores = scores.device, double(scores)
        present = present.to(scores.device)
        shares = scores * present
        rising = (shares / shares.sum(dim=1, keepdim=True)).cumsum(dim=1)
        counts = (keep_ratio * present.sum(dim=1, keepdim=True).double() - 1e-9).ceil()
        steps = torch.arange(int(counts.max()), device=scores.device).minimum(counts - 1)
        places = torch.searchsorted(rising, (2 * steps + 1) / (2 * counts)).clamp(max=scores.shape[1] - 1)
        drawn = torch.zeros_like(present).scatter(1, places, True)
        order = drawn.int().argsort(dim=1, descending=True, stable=True)[:, : int(drawn.sum(dim=1).max())]
        return order.where(drawn.gather(1, order), -1).to(home)


def unpacked(packed: Tensor, present: Tensor) -> Tensor:
    """Packed tokens (present tokens, dim) in their frame (batch, n, dim), zero where `present` (batch, n) is False."""
    frame = packed.new_zeros(*present.shape, packed.shape[-1])
    frame[present] = packed
    return frame
