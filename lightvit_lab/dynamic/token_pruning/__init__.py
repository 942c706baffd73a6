"""Token pruning, as `chapters/dynamic/token_pruning` derives it."""

from .adaptive_sampling import drop_pictures, present_tokens
from .choosing import Choose, kept_count, kept_patches
from .coarse_fine import CoarseToFineObjective, coarse_to_fine
from .dynamicvit import DynamicViTObjective, fine_tune, masked_softmax
from .pruning import prune_tokens, select_tokens

__all__ = ["Choose", "CoarseToFineObjective", "DynamicViTObjective", "coarse_to_fine",
           "drop_pictures", "fine_tune", "kept_count", "kept_patches", "masked_softmax",
           "present_tokens", "prune_tokens", "select_tokens"]
