"""What a model looks at. `record_attention` reads attention weights without rebuilding the model."""

from .recording import record_attention

__all__ = ["record_attention"]
