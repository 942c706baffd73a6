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
from ...models.timm_parts import PlainAttention, PlainBlock, LastPass, gather_tokens
from ...runtime.full_precision import full_precision
from .matching import MATCHINGS, Matching


class Merging(NamedTuple):
    """What a block does: merge `r` tokens of those behind the first `protected`, by a MATCHINGS, in
    one of MODES.
    """

    r: int
    protected: int
    mode: str = "weighted"
    matching: str = "bipartite"


class Trace(LastPass):
    """What the blocks of one model hand on beside the tokens: sizes, and who went into whom, of the
    last forward pass.

    Every merge leaves fewer tokens than before, so within a pass the number of tokens tells which
    sizes are theirs, also where blocks were taken out later, or run again for gradients. One pass
    at a time: no threads on one model.
    """

    def __init__(self, num_tokens: int):
        self.num_tokens = num_tokens
        self.sizes: dict[int, Tensor] = {}
        self.matchings: dict[int, Matching] = {}          # by the number of tokens before

    def __deepcopy__(self, memo: dict) -> Trace:
        return Trace(self.num_tokens)

    def start(self, num_tokens: int) -> None:
        """Forget the last pass; into the new one enter `num_tokens` tokens."""
        self.num_tokens = num_tokens
        self.sizes.clear()
        self.matchings.clear()

    def size(self, tokens: Tensor) -> Tensor | None:
        """(batch, N, 1): how many patches each of `tokens` stands for; None where each is one.
        Raises LabError.
        """
        size = self.sizes.get(tokens.shape[1])
        if size is None and tokens.shape[1] != self.num_tokens:
            raise LabError(f"merge_tokens: a block was given {tokens.shape[1]} tokens, and no block before it gave out "
                           "as many; let nothing else drop tokens between the blocks of a model that merges")
        if size is not None and size.shape[0] != tokens.shape[0]:
            raise LabError(f"merge_tokens: a block was given {tokens.shape[0]} pictures, the block "
                           f"before gave out {size.shape[0]}; let pictures leave before the first "
                           "block that merges")
        return size

    def keep(self, size: Tensor, matching: Matching) -> None:
        """Remember a merge and the sizes after it."""
        before = matching.kept.shape[1] + matching.gone.shape[1]
        self.sizes[size.shape[1]], self.matchings[before] = size, matching

    def places(self) -> Tensor | None:
        """(batch, N): which of the tokens left each of the N first ones is in; None where nothing
        was merged.
        """
        found = None
        for before in sorted(self.matchings, reverse=True):
            step = self.matchings[before].places()
            found = step if found is None else step.gather(1, found)
        return found


class ProportionalAttention(PlainAttention):
    """Plain attention in which a token of size s draws as much as s tokens like it.

    (batch, N, dim) and sizes (batch, N, 1) or None -> (batch, N, dim), and the keys' mean over
    heads: the metric.
    """

    @full_precision
    def weights(self, tokens: Tensor, size: Tensor | None = None) -> Tensor:
        """The attention weights (batch, heads, N, N), in float32; rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float(), self.mask(size, query.float()))

    def mask(self, size: Tensor | None, like: Tensor) -> Tensor | None:
        """log size for every head and query, (batch, 1, 1, N)."""
        return None if size is None else size.log().mT[:, None].to(like.dtype)

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        return self.join(self.mix(query, key, value, self.mask(size, query))), key.mean(dim=1)


class MergingBlock(PlainBlock):
    """A plain block with a merge between attention and MLP.

    (batch, N, dim) -> (batch, N - r, dim). `first` starts a new pass; `restore` gives each of the
    first N tokens its own place again, filled with the token that it went into.
    """

    def __init__(self, block: nn.Module, merging: Merging, trace: Trace, proportional: bool,
                 first: bool, restore: bool):
        super().__init__(block, ProportionalAttention(block.attn), merging.protected)
        self.merging, self.trace = merging, trace
        self.proportional, self.first, self.restore = proportional, first, restore

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise LabError("merge_tokens: masks are for pairs of tokens, and tokens merge here; call it without")
        size = self.recall(tokens)
        tokens, size, matching = self.step(tokens, size)
        if matching is not None:
            self.remember(size, matching)
        return self.spread(tokens) if self.restore else tokens

    def step(self, tokens: Tensor,
             size: Tensor | None) -> tuple[Tensor, Tensor | None, Matching | None]:
        """Attention, merge and MLP, a pure function of tokens (batch, N, dim) and sizes (batch, N,
        1).
        """
        mixed, metric = self.attn(self.norm1(tokens), size if self.proportional else None)
        tokens = self.add_attention(tokens, mixed)
        matching = None
        if self.merging.r:
            matching = MATCHINGS[self.merging.matching](metric, self.merging.r, self.merging.protected)
            tokens = matching.merge(tokens, size, self.merging.mode)
            size = matching.merge_sizes(size, grow=self.merging.mode != "prune")
        return self.add_mlp(tokens), size, matching

    @torch.compiler.disable
    def recall(self, tokens: Tensor) -> Tensor | None:
        """The sizes of `tokens`."""
        if self.first:
            self.trace.start(tokens.shape[1])
        return self.trace.size(tokens)

    @torch.compiler.disable
    def remember(self, size: Tensor, matching: Matching) -> None:
        """Hand on what was merged."""
        self.trace.keep(size, matching)

    @torch.compiler.disable
    def spread(self, tokens: Tensor) -> Tensor:
        """(batch, M, dim) -> (batch, N, dim), as many as entered the first block."""
        places = self.trace.places()
        return tokens if places is None else gather_tokens(tokens, places)
