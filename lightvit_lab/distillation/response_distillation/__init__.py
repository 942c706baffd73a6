"""Distillation of what a teacher answers, as `chapters/distillation/response_distillation` derives
it.
"""

from .losses import (decoupled_loss, decoupled_parts, deit_loss, dist_loss, divergence,
                     hard_target_loss, require_temperature, sharpness_temperatures, smooth_labels,
                     soft_target_loss, standardize)
from .objectives import (Correlation, Decoupled, DistillationToken, HardTargets, Labels, PerSample,
                         SoftTargets)
from .stored_logits import StoredLogits, store_logits

__all__ = ["Correlation", "Decoupled", "DistillationToken", "HardTargets", "Labels", "PerSample",
           "SoftTargets", "StoredLogits", "decoupled_loss", "decoupled_parts", "deit_loss",
           "dist_loss", "divergence", "hard_target_loss", "require_temperature",
           "sharpness_temperatures", "smooth_labels", "soft_target_loss", "standardize",
           "store_logits"]
