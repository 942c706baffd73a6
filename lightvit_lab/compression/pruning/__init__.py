"""Pruning of weights and of whole structures, as `chapters/compression/pruning` derives it."""

from .movement import movement_prune
from .pruners import (RIDGE, prune, prune_blocks, prune_embedding, prune_head_width, prune_heads,
                      prune_mlp, sensitivity)
from .unstructured import prune_weights, share_of_zeros, sparsity, keep_zeros

__all__ = ["RIDGE", "movement_prune", "prune", "prune_blocks", "prune_embedding", "prune_head_width",
           "prune_heads", "prune_mlp", "prune_weights", "sensitivity", "share_of_zeros",
           "sparsity", "keep_zeros"]
