"""What a model costs: counted (`count`) and measured (`measure`)."""

from .counting import Count, count
from .timing import Timing, measure

__all__ = ["Count", "Timing", "count", "measure"]
