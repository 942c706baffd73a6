"""Response distillation: the student learns from the logits that a teacher answers.

Page: chapters/distillation/response_distillation.
"""

from .objectives import (Correlation, Decoupled, DistillationToken, HardTargets, Labels, PerSample,
                         SoftTargets, decoupled_loss, decoupled_parts, deit_loss, dist_loss,
                         divergence, hard_target_loss, per_sample_loss, require_temperature,
                         sharpness_temperatures, smooth_labels, soft_target_loss, standardize)
from .stored_logits import StoredLogits, store_logits

__all__ = ["Correlation", "Decoupled", "DistillationToken", "HardTargets", "Labels", "PerSample",
           "SoftTargets", "StoredLogits", "decoupled_loss", "decoupled_parts", "deit_loss",
           "dist_loss", "divergence", "hard_target_loss", "per_sample_loss", "require_temperature",
           "sharpness_temperatures", "smooth_labels", "soft_target_loss", "standardize",
           "store_logits"]
