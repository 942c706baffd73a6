"""Boxes for the live notebook (ipywidgets); each has a static twin of `figures/` for the page."""

from .attention import attention_explorer
from .runs import training_curves
from .two_models import compare_models
from .views import attention_views

__all__ = ["attention_explorer", "attention_views", "compare_models", "training_curves"]
