"""Plotly figures as pure functions, data -> Figure, and `show`, which puts one on the page with its alternative text."""

from .curves import cost_over_tokens, loss_curves, scores_by_model, training_curves
from .display import show
from .pictures import gallery, patch_sequence, pictures_and_maps, where_patches_look

__all__ = ["cost_over_tokens", "gallery", "loss_curves", "patch_sequence", "pictures_and_maps", "scores_by_model",
           "show", "training_curves", "where_patches_look"]
