"""What a model attends to: recorded attention, maps by several methods, and their scores."""

from .attribution import (completeness_gap, deep_lift, grad_cam, integrated_gradients, kernel_shap,
                          occlusion)
from .curves import insertion_deletion
from .distance import attention_distance
from .localization import localize
from .maps import class_attention, relevance_map, rollout_map
from .plain_maps import centre_map, edge_map, random_map
from .recording import record_attention
from .relevance import relevance
from .rollout import rollout
from .sanity import sanity_check
from .scoring import at_resolution, best_iou, energy_in_mask, pointing_game

__all__ = ["at_resolution", "attention_distance", "best_iou", "centre_map", "class_attention",
           "completeness_gap", "deep_lift", "edge_map", "energy_in_mask", "grad_cam",
           "insertion_deletion", "integrated_gradients", "kernel_shap", "localize", "occlusion",
           "pointing_game", "random_map", "record_attention", "relevance", "relevance_map",
           "rollout", "rollout_map", "sanity_check"]
