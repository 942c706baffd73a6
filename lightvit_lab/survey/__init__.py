"""What the surveys of the field list: their taxonomy, each leaf with its page and methods; numbers that were published."""

from lightvit_lab.survey.leaves import Leaf, Method, taxonomy, unplaced
from lightvit_lab.survey.numbers import Compressed, Distilled, Published, compressed, distilled, published

__all__ = ["Compressed", "Distilled", "Leaf", "Method", "Published", "compressed", "distilled", "published", "taxonomy",
           "unplaced"]
