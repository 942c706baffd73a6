"""Pruning of weights and of whole structures, as `chapters/compression/pruning` derives it."""
# ruff: noqa: F401     these imports are what the page needs

from .movement import movement_prune
from .pruners import (RIDGE, prune, prune_blocks, prune_embedding, prune_head_width, prune_heads,
                      prune_mlp, sensitivity)
from .unstructured import keep_zeros, prune_weights, share_of_zeros, sparsity
