"""A transformer block that merges tokens between attention and MLP, and keeps attention fused.

The published form of proportional attention computes softmax(q k^T / sqrt(d) + log size) by hand,
and so gives back much of what merging saves. log size is the same for every query: one row that
torch's fused attention takes as an additive mask. Derived in chapters/dynamic/token_merging.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import LabError
from ...models.timm_parts import LastPass, PlainAttention, PlainBlock, gather_tokens
from ...runtime.full_precision import full_precision
from .matching import MATCHINGS, Matching


class Merging(NamedTuple):
    """How one block merges.

    r, protected: how many tokens, of those behind the first `protected`
    mode, matching: one of MODES, one of MATCHINGS
    proportional: whether a merged token draws as much attention as the patches in it
    first: whether a pass starts here
    restore: whether each of the first tokens gets a place of its own again at the end of the block
    """

    r: int
    protected: int
    mode: str
    matching: str
    proportional: bool
    first: bool
    restore: bool


class Trace(LastPass):
    """Sizes and matchings of the last forward pass, which the blocks of one model share.

    Every merge reduces the number of tokens, so within a pass that number identifies their sizes,
    also where blocks were taken out later, or run again for gradients. One pass at a time: no
    threads on one model. Not compiled: what it does depends on numbers that no graph knows.
    """

    def __init__(self, num_tokens: int):
        self.num_tokens = num_tokens
        self.sizes: dict[int, Tensor] = {}
        self.matchings: dict[int, Matching] = {}          # by the number of tokens before

    def __deepcopy__(self, memo: dict) -> Trace:
        return Trace(self.num_tokens)

    @torch.compiler.disable
    def enter(self, tokens: Tensor, first: bool) -> Tensor | None:
        """(batch, N, 1): how many patches each of `tokens` stands for; None where each is one.

        `first` forgets the pass before. Raises LabError where tokens or pictures went elsewhere.
        """
        batch, count = tokens.shape[:2]
        if first:
            self.num_tokens, self.sizes, self.matchings = count, {}, {}
        size = self.sizes.get(count)
        if size is None and count != self.num_tokens:
            raise LabError(f"merge_tokens: a block was given {count} tokens, and no block before "
                           "it gave out as many; let nothing else drop tokens between the blocks")
        if size is not None and size.shape[0] != batch:
            raise LabError(f"merge_tokens: a block was given {batch} pictures, the block before "
                           f"gave out {size.shape[0]}; let pictures leave before the first merge")
        return size

    @torch.compiler.disable
    def record(self, matching: Matching, size: Tensor) -> None:
        """Remember a merge and the sizes (batch, M, 1) after it."""
        self.sizes[size.shape[1]], self.matchings[matching.num_tokens] = size, matching

    def places(self) -> Tensor | None:
        """(batch, N): the token that each of the first N became part of; None without a merge."""
        places = None
        for before in sorted(self.matchings, reverse=True):
            step = self.matchings[before].places()
            places = step if places is None else step.gather(1, places)
        return places

    @torch.compiler.disable
    def restore(self, tokens: Tensor) -> Tensor:
        """(batch, M, dim) -> (batch, N, dim), as many as entered the first block."""
        places = self.places()
        return tokens if places is None else gather_tokens(tokens, places)


class ProportionalAttention(PlainAttention):
    """Plain attention in which a token of size s draws as much as s tokens like it.

    (batch, N, dim) and sizes (batch, N, 1) or None -> (batch, N, dim), and the keys' mean over
    heads: the metric.
    """

    @full_precision
    def weights(self, tokens: Tensor, size: Tensor | None = None) -> Tensor:
        """The attention weights (batch, heads, N, N), in float32; rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float(), self.mask(size, torch.float32))

    def mask(self, size: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """log size for every head and query, (batch, 1, 1, N)."""
        return None if size is None else size.log().mT[:, None].to(dtype)

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        mixed = self.mix(query, key, value, self.mask(size, query.dtype))
        return self.join(mixed), key.mean(dim=1)


class MergingBlock(PlainBlock):
    """A plain block with a merge between attention and MLP: (batch, N, dim) -> (batch, N - r, dim).

    With `merging.restore`, each of the tokens that entered the first block has its own place again,
    filled with the token that it became part of.
    """

    def __init__(self, block: nn.Module, merging: Merging, trace: Trace):
        super().__init__(block, ProportionalAttention(block.attn), merging.protected)
        self.merging, self.trace = merging, trace

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise LabError("merge_tokens: masks are for pairs of tokens, and tokens merge here; "
                           "call it without")
        how = self.merging
        size = self.trace.enter(tokens, how.first)
        mixed, metric = self.attn(self.norm1(tokens), size if how.proportional else None)
        tokens = self.add_attention(tokens, mixed)
        if how.r:
            matching = MATCHINGS[how.matching](metric, how.r, how.protected)
            tokens = matching.merge(tokens, size, how.mode)
            self.trace.record(matching, matching.merge_sizes(size, grow=how.mode != "prune"))
        tokens = self.add_mlp(tokens)
        return self.trace.restore(tokens) if how.restore else tokens
