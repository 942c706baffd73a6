"""Models in files: `save`, `load`, the zoo (`load("zoo:lab_vit_teacher/cifar10")`), and what
authors publish.
"""

from .files import load, save
from .official import import_official

__all__ = ["import_official", "load", "save"]
