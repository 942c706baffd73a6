"""Parts that vision transformers are made of, interchangeable because they are called alike.

Between embedding and head each is `part(tokens, grid) -> tokens`: tokens (batch, N, dim) stand row
by row on `grid`, (rows, columns). What needs no grid may leave it out. An embedding is `embed(maps)
-> (tokens, grid)` of maps (batch, channels, height, width).
"""
# ruff: noqa: F401     these imports are what the room offers

from .attention import Attention, attend, attention_weights, join_heads, split_heads
from .attention_free import Pooling
from .blocks import Mlp, PreNormBlock, initialise_linear
from .efficient_attention import WindowAttention
from .faster_attention import biased_attention
from .maps import Grid, Windows, sort_into_windows, to_map, to_tokens
from .patch_embedding import ConvStem, PatchEmbedding, convolution
from .position_encoding import RelativePositionBias, relative_position_index
