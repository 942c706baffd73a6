"""The one folder that knows timm's parts by name; the lab's own models are read through it too.

tokens: how tokens lie on the picture, and which of them the head reads; attention: its weights and
parts; forward: a plain ViT's forward in steps; held: a block's trained parts in blocks of other
kinds; prunable: what pruning cuts.
"""

from .attention import (attention_modules, attention_weights, gate_of, is_readable,
                        normalises_heads, plain_attention, set_heads, values_and_mixed)
from .forward import (blocks, both_heads, embed, embed_patches, feature_maps, finish, last_norm,
                      masked_block, plain_blocks, require_plain_blocks, require_plain_vit)
from .block_parts import AttentionParts, PlainAttention, PlainBlock, LastPass, ScoredAttention, WrappedBlock, gather_tokens
from .prunable import Stream, attentions, block_names, head_shape, mlps, set_width, stream
from .tokens import (Layout, grid, grids, has_class_token, head_tokens, in_reading_order, layout,
                     num_prefix_tokens, read_by_head, reads_class_token, reads_class_token_alone,
                     takes_any_size, token_counts)

__all__ = [
    "AttentionParts", "PlainAttention", "PlainBlock", "LastPass", "Layout", "ScoredAttention", "Stream", "WrappedBlock",
    "attention_modules", "attention_weights", "attentions", "block_names", "blocks", "both_heads",
    "embed", "embed_patches", "feature_maps", "finish", "gate_of", "gather_tokens", "grid", "grids", "has_class_token",
    "head_shape", "head_tokens", "in_reading_order", "is_readable", "last_norm", "layout", "masked_block", "mlps", "normalises_heads",
    "num_prefix_tokens", "plain_attention", "plain_blocks", "read_by_head", "reads_class_token",
    "reads_class_token_alone", "require_plain_blocks", "require_plain_vit", "set_heads", "set_width", "stream",
    "takes_any_size", "token_counts", "values_and_mixed",
]
