"""What the surveys of the field list: their taxonomy, each leaf with its page and methods; numbers
that were published.
"""

from lightvit_lab.survey.leaves import Leaf, Method, taxonomy, unplaced
from lightvit_lab.survey.numbers import (Compressed, Distilled, Dynamic, Published, compressed,
                                         distilled, dynamic, published)

__all__ = ["Compressed", "Distilled", "Dynamic", "Leaf", "Method", "Published", "compressed", "distilled", "dynamic",
           "published", "taxonomy", "unplaced"]
