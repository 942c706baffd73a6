"""Models in files: `save`, `load` (also of the zoo, "zoo:MODEL/SET"), and published weights."""

from .files import load, save
from .official import import_official

__all__ = ["import_official", "load", "save"]
