"""Feature distillation: the student learns how the teacher gets there, not only what it answers.

The three leaves of the survey have a file each: attention, structure, direct mimicking. Losses are
plain functions of tensors; objectives are for `distill`, and name the layers they compare. Features
on different grids are joined by averaging the finer one (`align`), of different widths by a linear
projector that is trained along and dropped. Page: chapters/distillation/feature_distillation.
"""

from .attention import (AttentionTransfer, AttentionWeights, attention_map, attention_transfer_loss,
                        attention_weights_loss, image_attention)
from .joining import align
from .mimicking import DeepGeneration, Hint, LiftedLastLayer, ShallowMimic, hint_loss, whiten
from .structured import (Manifold, Relational, Similarity, manifold_loss, relational_loss,
                         similarity_loss)

__all__ = ["AttentionTransfer", "AttentionWeights", "DeepGeneration", "Hint", "LiftedLastLayer",
           "Manifold", "Relational", "ShallowMimic", "Similarity", "align", "attention_map",
           "attention_transfer_loss", "attention_weights_loss", "hint_loss", "image_attention",
           "manifold_loss", "relational_loss", "similarity_loss", "whiten"]
