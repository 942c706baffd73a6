"""The surveys' taxonomy, each leaf with its page and methods, and numbers that were published."""

from .leaves import Leaf, Method, taxonomy, unplaced
from .numbers import (Compressed, Distilled, Dynamic, Published, Store, compressed, distilled,
                      dynamic, published, stores)

__all__ = ["Compressed", "Distilled", "Dynamic", "Leaf", "Method", "Published", "Store",
           "compressed", "distilled", "dynamic", "published", "stores", "taxonomy", "unplaced"]
