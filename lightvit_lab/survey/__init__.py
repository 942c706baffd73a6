"""The surveys' taxonomy, each leaf with its page and methods, and numbers that were published."""

from .leaves import Leaf, Method, taxonomy, unplaced
from .numbers import (Compressed, Distilled, Dynamic, Published, compressed, distilled, dynamic,
                      published)

__all__ = ["Compressed", "Distilled", "Dynamic", "Leaf", "Method", "Published", "compressed",
           "distilled", "dynamic", "published", "taxonomy", "unplaced"]
