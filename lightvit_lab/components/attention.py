"""Multi-head self-attention, and the steps that its relatives share: split heads, attend, join.

Derived by `chapters/foundations/vision_transformer`. Vaswani et al., arXiv 1706.03762.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import plain_numbers
from ..runtime.full_precision import full_precision
from .faster_attention import biased_attention
from .maps import Grid


def split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """(batch, N, parts * heads * head_dim) -> `parts` tensors (batch, heads, N, head_dim).

    With 3 parts these are queries, keys and values.
    """
    return projected.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def join_heads(mixed: Tensor) -> Tensor:
    """(batch, heads, N, head_dim) -> (batch, N, heads * head_dim): the heads side by side."""
    return mixed.transpose(1, 2).flatten(2)


def attention_weights(query: Tensor, key: Tensor, bias: Tensor | None = None,
                      scale: float | None = None) -> Tensor:
    """softmax(query key^T * scale + bias), (..., queries, keys); rows sum to 1.

    In float32 or finer. `scale` is by default the inverse root of head_dim.
    """
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    exact = torch.promote_types(scores.dtype, torch.float32)
    return (scores if bias is None else scores + bias).softmax(dim=-1, dtype=exact)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None,
           scale: float | None = None, fused: bool = True) -> Tensor:
    """Mean of the values for each query by `attention_weights`: (batch, heads, queries, head_dim).

    With `fused` torch's kernel does it, and the weights never exist in memory; with a `bias`, on a
    CPU and without gradients, the faster form does (`faster_attention`).
    """
    if fused and bias is not None:
        return biased_attention(query, key, value, bias, scale)
    if fused:
        return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
    return attention_weights(query, key, bias, scale).to(value) @ value


@plain_numbers
class Attention(nn.Module):
    """Multi-head self-attention: each token becomes a weighted mean of the values of all tokens.

    (batch, tokens, dim) -> (batch, tokens, dim). With `fused=True` (the default) torch's fused
    kernel is used and the (batch, heads, tokens, tokens) weights never exist in memory; `weights`
    computes them for figures.
    """

    def __init__(self, dim: int, num_heads: int, fused: bool = True, qkv_bias: bool = True):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.scale = self.head_dim**-0.5
        self.fused = fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def split_heads(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (batch, heads, tokens, head_dim)."""
        return split_heads(self.qkv(tokens), 3, self.num_heads)

    @full_precision
    def weights(self, tokens: Tensor) -> Tensor:
        """The attention weights, (batch, heads, tokens, tokens); row i is token i's, and sums to 1.

        In float32, as the fused kernel computes its softmax, whatever the type of the tokens, also
        under autocast.
        """
        query, key, _ = self.split_heads(tokens)
        return attention_weights(query.float(), key.float(), scale=self.scale)

    def forward(self, tokens: Tensor, grid: Grid | None = None) -> Tensor:
        mixed = attend(*self.split_heads(tokens), scale=self.scale, fused=self.fused)
        return self.proj(join_heads(mixed))  # (B, N, D)
