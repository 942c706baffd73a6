"""Plotly figures as pure functions, data -> Figure, and `show`, which puts one on the page with its alternative text."""

from .attention import attention_distance, global_tokens, head_gallery, rollout_by_depth
from .curves import cost_over_tokens, loss_curves, scores_by_model, training_curves
from .display import show
from .efficiency import errors_by_counter, macs_and_time, roofline, times_by_model
from .explorer import Explorer, explorer
from .pictures import gallery, patch_sequence, pictures_and_maps

__all__ = ["Explorer", "attention_distance", "cost_over_tokens", "errors_by_counter", "explorer", "gallery",
           "global_tokens", "head_gallery", "loss_curves", "macs_and_time", "patch_sequence", "pictures_and_maps",
           "rollout_by_depth", "roofline", "scores_by_model", "show", "times_by_model", "training_curves"]
