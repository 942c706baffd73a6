"""Plotly figures as pure functions, data -> Figure, and `show`, which puts one on the page with its alternative text.

What readers work with in a page without a kernel is HTML of our own: `explorer`, and the cards `cost_explorer`,
`compare_models` and `training_explorer`.
"""

from .attention import attention_distance, global_tokens, head_gallery, rollout_by_depth
from .card import Card
from .compression import four_columns, stages, trade_off
from .cost import cost_explorer
from .curves import cost_over_tokens, loss_curves, scores_by_model, training_curves
from .display import show
from .distillation import directions, gains, soft_labels
from .early_exit import exit_frontier, reliability_diagram, shares_leaving
from .efficiency import errors_by_counter, macs_and_time, roofline, times_by_model
from .explorer import Explorer, explorer
from .feature_distillation import agreement, energy_beyond_width, similarity_matrices
from .low_rank import accuracy_over, errors_over_rank, spectra, time_over_rank
from .pictures import gallery, patch_sequence, pictures_and_maps
from .pruning import pruned_heads, sensitivity_curves
from .runs import training_explorer
from .token_merging import by_block, merged_regions
from .token_pruning import gains_over_size, kept_by_block, kept_counts, promised_and_arrived
from .two_models import compare_models

__all__ = ["Card", "Explorer", "accuracy_over", "agreement", "attention_distance", "by_block", "compare_models",
           "cost_explorer", "cost_over_tokens", "directions", "energy_beyond_width", "errors_by_counter",
           "errors_over_rank", "exit_frontier", "explorer", "four_columns", "gains", "gains_over_size", "gallery",
           "global_tokens", "head_gallery", "kept_by_block", "kept_counts", "loss_curves", "macs_and_time",
           "merged_regions", "patch_sequence", "pictures_and_maps", "promised_and_arrived", "pruned_heads",
           "reliability_diagram", "rollout_by_depth", "roofline", "scores_by_model", "sensitivity_curves",
           "shares_leaving", "show", "similarity_matrices", "soft_labels", "spectra", "stages", "time_over_rank",
           "times_by_model", "trade_off", "training_curves", "training_explorer"]
