"""What the surveys of the field list: their taxonomy, each leaf with its page and methods; numbers that were published."""

from lightvit_lab.survey.leaves import Leaf, Method, taxonomy, unplaced
from lightvit_lab.survey.numbers import Distilled, Published, distilled, published

__all__ = ["Distilled", "Leaf", "Method", "Published", "distilled", "published", "taxonomy", "unplaced"]
