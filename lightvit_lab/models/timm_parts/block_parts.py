"""The trained parts of a plain block, under their old names in blocks of other kinds."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components import biased_attention, join_heads, split_heads
from ...runtime.full_precision import full_precision
from ...runtime.running import map_tensors


class AttentionParts(nn.Module):
    """The parts of a trained plain self-attention, under their old names, so with its state's keys.

    `fused` chooses torch's kernel, as in the lab's attention, and with an additive mask the faster
    form.
    """

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.fused = getattr(attention, "fused", getattr(attention, "fused_attn", True))
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.scale = attention.scale
        # in timm's order
        for name in ("qkv", "q_norm", "k_norm", "attn_drop", "norm", "proj", "proj_drop"):
            setattr(self, name, getattr(attention, name, nn.Identity()))

    def split_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens (batch, N, dim), each (batch, heads, N, head_dim)."""
        return self.heads_of(self.qkv(tokens))

    def heads_of(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of what `qkv` made of the tokens, (batch, N, 3 * heads * head_dim)."""
        query, key, value = split_heads(qkv, 3, self.num_heads)
        return self.q_norm(query), self.k_norm(key), value

    def project(self, mixed: Tensor) -> Tensor:
        """What the heads mixed, side by side (..., heads * head_dim) -> (..., dim)."""
        return self.proj_drop(self.proj(self.norm(mixed)))

    def join(self, mixed: Tensor) -> Tensor:
        """(batch, heads, tokens, head_dim) -> (batch, tokens, dim), through the projection."""
        return self.project(join_heads(mixed))


class PlainAttention(AttentionParts):
    """Plain self-attention, made of the parts of a trained one; (batch, tokens, dim) in and out."""

    def weigh(self, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        """softmax(query key^T), (batch, heads, queries, keys), in float32 as fused kernels do.

        `mask` is added to the scores, or, if boolean, says which pairs there are.
        """
        scores = (query @ key.mT).float() * self.scale
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        elif mask is not None:
            scores = scores + mask
        return scores.softmax(dim=-1)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Each query's weighted mean of the values, (batch, heads, queries, head_dim)."""
        if not self.fused:
            return self.mix_by(self.weigh(query, key, mask), value)
        dropped = getattr(self.attn_drop, "p", 0.0) if self.training else 0.0
        if mask is not None and mask.is_floating_point() and not dropped:
            return biased_attention(query, key, value, mask, self.scale)
        return F.scaled_dot_product_attention(query, key, value, mask, dropped, scale=self.scale)

    def mix_by(self, weights: Tensor, value: Tensor) -> Tensor:
        """The values mixed by given weights (batch, heads, queries, keys), after dropout."""
        return self.attn_drop(weights.to(value)) @ value

    @full_precision
    def weights(self, tokens: Tensor) -> Tensor:
        """Attention weights (batch, heads, tokens, tokens) in float32; rows sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return self.weigh(query.float(), key.float())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.join(self.mix(*self.split_heads(tokens)))


class ScoredAttention(PlainAttention):
    """Attention that also returns the class token's weights, (batch, tokens), mean over heads.

    That one row costs tokens x dim multiplications more, and the square of weights stays inside the
    fused kernel.
    """

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = self.split_heads(tokens)
        row = self.weigh(query[:, :, :1], key).mean(dim=(1, 2))
        return self.join(self.mix(query, key, value)), row


class LastPass:
    """What blocks of one model share of the last forward; it moves with their weights."""

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Make `change` to every tensor in it, without its gradient."""
        for name, value in vars(self).items():
            setattr(self, name, map_tensors(value, lambda tensor: change(tensor.detach())))


class PlainBlock(nn.Module):
    """A pre-norm block, its parts under old names; `prefix` tokens in front are no patches."""

    def __init__(self, block: nn.Module, attention: nn.Module, prefix: int):
        super().__init__()
        self.prefix = prefix
        self.norm1, self.attn = block.norm1, attention
        # in timm's order
        for name in ("ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"):
            setattr(self, name, getattr(block, name, nn.Identity()))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PlainBlock:
        for shared in vars(self).values():
            if isinstance(shared, LastPass):
                shared.move(fn)
        return super()._apply(fn, recurse)

    def add_attention(self, tokens: Tensor, mixed: Tensor) -> Tensor:
        """`tokens` with what attention mixed added."""
        return tokens + self.drop_path1(self.ls1(mixed))

    def add_mlp(self, tokens: Tensor) -> Tensor:
        """`tokens` with what the MLP makes of each added."""
        return tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens))))


class WrappedBlock(nn.Module):
    """A block and what a method adds to it; its `attn` and `mlp` are those of the block."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    @property
    def attn(self) -> nn.Module:
        """The block's attention."""
        return self.block.attn

    @property
    def mlp(self) -> nn.Module:
        """The block's MLP."""
        return self.block.mlp


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (batch, tokens, dim) at `index` (batch, k) -> (batch, k, dim)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
