"""Adaptive token sampling: as many tokens as a picture needs (ATS, Fayyaz et al., arXiv
2111.15667).

Pictures of one batch then have different lengths. Between blocks they lie side by side in a frame,
filled up with zeros, and a mask that the blocks share says which tokens are there. A block takes
these out of the frame and computes on them alone; only in attention must pictures stay apart, and
those of equal length go through it together. On a GPU each block waits for the device, since
lengths have to be known before memory is taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LabError
from ...runtime.running import double
from ...models.timm_parts import PlainAttention, PlainBlock, LastPass, gather_tokens
from ...runtime.full_precision import full_precision
from .choosing import Choose


class Presence(LastPass):
    """Which tokens are there, handed on by the blocks of one model beside the tokens, of the last
    forward pass.

    `masks`: (batch, n) behind each block that samples, by that block's place. One pass at a time:
    no threads on one model. Copies of a model start without.
    """

    def __init__(self) -> None:
        self.masks: dict[int, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Presence:
        return Presence()

    def entering(self, place: int, tokens: Tensor) -> Tensor:
        """Which of `tokens` (batch, n, dim) are there as they enter block `place`, (batch, n); all
        where none sampled.

        What later blocks said is of a pass before, and forgotten. Raises LabError where tokens, or
        pictures, went otherwise.
        """
        self.masks = {one: mask for one, mask in self.masks.items() if one < place}
        if not self.masks:
            return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        mask = self.masks[max(self.masks)]
        if mask.shape != tokens.shape[:2]:
            raise LabError(f"prune_tokens: block {place} was given {tuple(tokens.shape[:2])} pictures and tokens, the "
                           f"block before gave out {tuple(mask.shape)}; let nothing else drop them between the blocks "
                           "of a model that samples, or say so: adaptive_sampling.drop_pictures(model, gone)")
        return mask


def presence(model: nn.Module) -> list[Presence]:
    """What the blocks of `model` that sample, and those behind them, share."""
    found = {id(part.presence): part.presence for part in model.modules() if isinstance(part, RaggedBlock)}
    return list(found.values())


def present_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Which of the tokens (batch, n, dim) behind the last block of `model`, as it just ran, are
    there, (batch, n).
    """
    masks = [mask for shared in presence(model) for mask in list(shared.masks.values())[-1:]]
    return masks[0] if masks else torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def drop_pictures(model: nn.Module, gone: Tensor) -> None:
    """Tell the blocks of `model` that the pictures `gone` (batch,) left the batch in the middle of
    a pass.
    """
    for shared in presence(model):
        of_this_pass = {place: mask for place, mask in shared.masks.items() if mask.shape[0] == gone.shape[0]}
        shared.masks = {place: mask[~gone] for place, mask in of_this_pass.items()}


class RaggedAttention(PlainAttention):
    """Attention inside each picture, of tokens packed one after the other: (present tokens, dim) in
    and out.

    `present` (batch, n) says where in the frame they stand; tokens that fill the frame, (batch, n,
    dim), go through as they are, or with `present` as a mask.
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
            # (pictures, count)
            rows = starts[counts == count][:, None] + torch.arange(count, device=tokens.device)
            mixed[rows] = self.mix(*self.heads_of(qkv[rows])).transpose(1, 2).flatten(2)
        return self.project(mixed)


class RaggedBlock(PlainBlock):
    """A block on pictures of different lengths; `grouped` False computes on the whole frame,
    masked, in its place.

    In train mode it always does, since what drops whole pictures at random counts on the frame.
    `place` is its number among the blocks of the model, which share `presence`.
    """

    def __init__(self, block: nn.Module, attention: RaggedAttention, prefix: int, grouped: bool,
                 presence: Presence, place: int):
        super().__init__(block, attention, prefix)
        self.grouped, self.presence, self.place = grouped, presence, place

    def forward(self, tokens: Tensor) -> Tensor:
        present = self.presence.entering(self.place, tokens)
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

    def forward(self, tokens: Tensor, present: Tensor, choose: Sample,
                keep_ratio: float) -> tuple[Tensor, Tensor]:
        """Tokens (batch, n, dim) -> what is added to those sampled, (batch, longest, dim), and
        their places or -1.
        """
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

    A token's score is the class token's attention to it times the length of its value, added up
    over heads. Of a picture with n image tokens K = ceil(keep_ratio n) are drawn at the even
    quantiles (2k - 1) / 2K of the scores; a token drawn twice stays once, so a picture whose scores
    lie on few tokens keeps few.
    """

    def __init__(self, block: nn.Module, attention: SamplingAttention, prefix: int, grouped: bool,
                 presence: Presence, place: int, keep_ratio: float):
        super().__init__(block, attention, prefix, grouped, presence, place)
        self.choose, self.keep_ratio = Sample(), keep_ratio

    def forward(self, tokens: Tensor) -> Tensor:
        present = self.presence.entering(self.place, tokens)
        mixed, places = self.attn(self.norm1(tokens), present, self.choose, self.keep_ratio)
        there = self.presence.masks[self.place] = places >= 0
        tokens = self.add_attention(gather_tokens(tokens, places.clamp(min=0)), mixed)
        if there.all():
            return self.add_mlp(tokens)
        if self.training or not self.grouped:
            return self.add_mlp(tokens) * there[..., None]
        return unpacked(self.add_mlp(tokens[there]), there)


class Sample(Choose):
    """Scores (batch, n) of the tokens `present` (batch, n) -> places (batch, longest), rising, -1
    behind the last.
    """

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
    """Packed tokens (present tokens, dim) in their frame (batch, n, dim), zero where `present`
    (batch, n) is False.
    """
    frame = packed.new_zeros(*present.shape, packed.shape[-1])
    frame[present] = packed
    return frame
