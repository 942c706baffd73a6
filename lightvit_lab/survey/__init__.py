"""The surveys' taxonomy, each leaf with its page and methods, and numbers that were published."""

from .leaves import Leaf, Method, taxonomy, unplaced
from .numbers import (Compressed, Detected, Distilled, Dynamic, Published, Store, compressed,
                      detected, distilled, dynamic, published, stores)

__all__ = ["Compressed", "Detected", "Distilled", "Dynamic", "Leaf", "Method", "Published",
           "Store", "compressed", "detected", "distilled", "dynamic", "published", "stores",
           "taxonomy", "unplaced"]
