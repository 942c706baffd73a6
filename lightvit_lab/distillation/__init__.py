"""Knowledge distillation: a student learns what a teacher says (responses) and how it gets there
(features).
"""

from .distilling import distill
from .seeing import Seen
from .response_distillation.stored_logits import StoredLogits, store_logits

__all__ = ["Seen", "StoredLogits", "distill", "store_logits"]
