"""Boxes for the live notebook (ipywidgets); each has a static twin of `figures/` for the page."""

from .attention import AttentionExplorer, attention_explorer
from .cost import CostExplorer, cost_explorer
from .runs import TrainingCurves, training_curves
from .two_models import ModelComparison, compare_models
from .views import AttentionViews, attention_views

__all__ = ["AttentionExplorer", "AttentionViews", "CostExplorer", "ModelComparison", "TrainingCurves",
           "attention_explorer", "attention_views", "compare_models", "cost_explorer", "training_curves"]
