"""What a model costs: counted, measured, and against what the machine can do (`roofline`)."""

from .batches import BatchSearch, best_batch
from .counting import Count, count
from .efficiency import efficient_error_rate
from .estimates import Estimate, estimate_vit
from .peaks import Peaks, machine_card, machine_peaks
from .roofline import Roofline, Work, realisation, roofline
from .timing import Ratio, Timing, Timings, measure

__all__ = ["BatchSearch", "Count", "Estimate", "Peaks", "Ratio", "Roofline", "Timing", "Timings",
           "Work", "best_batch", "count", "efficient_error_rate", "estimate_vit", "machine_card",
           "machine_peaks", "measure", "realisation", "roofline"]
