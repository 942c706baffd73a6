"""What a model costs: counted (`count`), measured (`measure`, `best_batch`)."""

from .batches import BatchSearch, best_batch
from .counting import Count, count
from .timing import Ratio, Timing, Timings, measure

__all__ = ["BatchSearch", "Count", "Ratio", "Timing", "Timings", "best_batch", "count", "measure"]
