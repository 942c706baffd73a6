"""What a model looks at. `record_attention` reads attention weights without rebuilding the model; maps of several methods."""

from .maps import class_attention, relevance_map, rollout_map
from .recording import record_attention
from .relevance import relevance
from .rollout import rollout

__all__ = ["class_attention", "record_attention", "relevance", "relevance_map", "rollout", "rollout_map"]
