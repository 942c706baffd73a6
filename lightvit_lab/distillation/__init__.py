"""Knowledge distillation: a student learns from a teacher's logits and features."""

from .distilling import distill
from .model_outputs import ModelOutputs
from .response_distillation.stored_logits import StoredLogits, store_logits

__all__ = ["ModelOutputs", "StoredLogits", "distill", "store_logits"]
