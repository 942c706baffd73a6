"""Knowledge distillation: a student learns what a teacher says (responses) and how it gets there (features)."""

from .distilling import distill
from .seeing import Seen

__all__ = ["Seen", "distill"]
