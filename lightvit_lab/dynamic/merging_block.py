"""A transformer block that merges tokens between attention and MLP, and keeps attention fused.

The published form of proportional attention computes softmax(q k^T / sqrt(d) + log size) by hand, and so gives back
much of what merging saves. log size is the same for every query: one row that torch's fused attention takes as an
additive mask. Derived in chapters/dynamic/token_merging.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import LabError
from .matching import MATCHINGS, Matching


class Merging(NamedTuple):
    """What a block does: merge `r` tokens of those behind the first `protected`, by a MATCHINGS, in one of MODES."""

    r: int
    protected: int
    mode: str = "weighted"
    matching: str = "bipartite"


class Trace:
    """What the blocks of one model hand on beside the tokens: sizes, and who went into whom, of the last forward pass.

    Every merge leaves fewer tokens than before, so within a pass the number of tokens tells which sizes are theirs,
    also where blocks were taken out later, or run again for gradients. One pass at a time: no threads on one model.
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
        """(batch, N, 1): how many patches each of `tokens` stands for; None where each is one. Raises LabError."""
        size = self.sizes.get(tokens.shape[1])
        if size is None and tokens.shape[1] != self.num_tokens:
            raise LabError(f"merge_tokens: a block was given {tokens.shape[1]} tokens, and no block before it gave out "
                           "as many; let nothing else drop tokens between the blocks of a model that merges")
        if size is not None and len(size) != len(tokens):
            raise LabError(f"merge_tokens: a block was given {len(tokens)} pictures, the block before gave out "
                           f"{len(size)}; let pictures leave before the first block that merges")
        return size

    def keep(self, size: Tensor, matching: Matching) -> None:
        """Remember a merge and the sizes after it."""
        before = matching.kept.shape[1] + matching.gone.shape[1]
        self.sizes[size.shape[1]], self.matchings[before] = size, matching

    def places(self) -> Tensor | None:
        """(batch, N): which of the tokens left each of the N first ones is in; None where nothing was merged."""
        found = None
        for before in sorted(self.matchings, reverse=True):
            step = self.matchings[before].places()
            found = step if found is None else step.gather(1, found)
        return found


class ProportionalAttention(nn.Module):
    """A plain attention's trained parts under their names; a token of size s draws as much as s tokens like it.

    (batch, N, dim) and sizes (batch, N, 1) or None -> (batch, N, dim), and the keys' mean over heads: the metric.
    """

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.num_heads, self.head_dim, self.scale = attention.num_heads, attention.head_dim, attention.scale
        self.fused = getattr(attention, "fused", getattr(attention, "fused_attn", True))
        self.dropout = getattr(getattr(attention, "attn_drop", None), "p", 0.0)
        self.qkv = attention.qkv
        for name in ("q_norm", "k_norm", "norm"):                             # timm's, where it has them
            setattr(self, name, getattr(attention, name, nn.Identity()))
        self.proj, self.proj_drop = attention.proj, getattr(attention, "proj_drop", nn.Identity())

    def split_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, N, head_dim)."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.q_norm(qkv[0]), self.k_norm(qkv[1]), qkv[2]

    def weights(self, tokens: Tensor, size: Tensor | None = None) -> Tensor:
        """The attention weights (batch, heads, N, N), in float32; rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        scores = query.float() @ key.float().mT * self.scale
        return (scores if size is None else scores + self.mask(size, scores)).softmax(dim=-1)

    def mask(self, size: Tensor, like: Tensor) -> Tensor:
        """log size for every head and query, (batch, 1, 1, N)."""
        return size.log().mT[:, None].to(like.dtype)

    def forward(self, tokens: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        mask = None if size is None else self.mask(size, query)
        dropout = self.dropout if self.training else 0.0
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=self.scale)
        else:
            scores = query @ key.mT * self.scale
            scores = scores if mask is None else scores + mask
            mixed = F.dropout(scores.softmax(dim=-1), dropout) @ value
        return self.proj_drop(self.proj(self.norm(mixed.transpose(1, 2).flatten(2)))), key.mean(dim=1)


class MergingBlock(nn.Module):
    """The parts of a plain block under their names, with a merge between attention and MLP.

    (batch, N, dim) -> (batch, N - r, dim). `first` starts a new pass; `restore` gives each of the first N tokens its
    own place again, filled with the token that it went into.
    """

    def __init__(self, block: nn.Module, merging: Merging, trace: Trace, proportional: bool, first: bool,
                 restore: bool):
        super().__init__()
        self.merging, self.trace = merging, trace
        self.proportional, self.first, self.restore = proportional, first, restore
        self.norm1, self.attn = block.norm1, ProportionalAttention(block.attn)
        for name in ("ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"):       # timm's, where it has them
            setattr(self, name, getattr(block, name, nn.Identity()))

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise LabError("merge_tokens: masks are for pairs of tokens, and tokens merge here; call it without")
        size = self.recall(tokens)
        tokens, size, matching = self.step(tokens, size)
        if matching is not None:
            self.remember(size, matching)
        return self.spread(tokens) if self.restore else tokens

    def step(self, tokens: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor | None, Matching | None]:
        """Attention, merge and MLP, a pure function of tokens (batch, N, dim) and sizes (batch, N, 1)."""
        mixed, metric = self.attn(self.norm1(tokens), size if self.proportional else None)
        tokens = tokens + self.drop_path1(self.ls1(mixed))
        matching = None
        if self.merging.r:
            matching = MATCHINGS[self.merging.matching](metric, self.merging.r, self.merging.protected)
            tokens = matching.merge(tokens, size, self.merging.mode)
            size = matching.merge_sizes(size, grow=self.merging.mode != "prune")
        return tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens)))), size, matching

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
        return tokens if places is None else tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
