"""Knowledge distillation: a student learns what a teacher says (responses) and how it gets there
(features).
"""

from .distilling import distill
from .model_outputs import ModelOutputs
from .response_distillation.stored_logits import StoredLogits, store_logits

__all__ = ["ModelOutputs", "StoredLogits", "distill", "store_logits"]
