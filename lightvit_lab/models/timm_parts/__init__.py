"""The one folder that knows timm's parts by name; the lab's own models are read through it too.

tokens: how tokens lie on the picture, and which of them the head reads; attention: its weights and
parts; forward: a plain ViT's forward in steps; block_parts: a block's trained parts in blocks of
other kinds; prunable: what pruning cuts; timm's own `reparameterize_model`: branches and norms that
can be merged after training, merged.
"""
# ruff: noqa: F401     these imports are what the folder offers

from timm.utils import reparameterize_model

from .attention import (GIVE_VIT, attention_modules, attention_weights, is_readable,
                        plain_attention, values_and_mixed)
from .block_parts import (AttentionParts, LastPass, PlainAttention, PlainBlock, ScoredAttention,
                          WrappedBlock, gather_tokens)
from .forward import (blocks, both_heads, embed, embed_patches, feature_maps, finish, last_norm,
                      masked_block, plain_blocks, require_plain_blocks, require_plain_vit)
from .prunable import (attentions, block_names, head_shape, mlps, normalises_heads, set_heads,
                       set_width, stream)
from .tokens import (grid, grids, has_class_token, head_names, head_tokens, in_reading_order,
                     layout, num_prefix_tokens, read_by_head, reads_class_token,
                     reads_class_token_alone, takes_any_size, token_counts)
