"""Feature distillation: the student learns how the teacher gets there, not only what it answers.

The three leaves of the survey have a file each: attention, structure, direct mimicking. Losses are
plain functions of tensors; objectives are for `distill`, and name the layers they compare. Features
on different grids are joined by averaging the finer one (`align`), of different widths by a linear
projector that is trained along and dropped; the lift of `lift_last_layer` stays. Page:
chapters/distillation/feature_distillation.
"""

from .attention import (AttentionTransfer, AttentionWeights, ValueRelations, attention_map,
                        attention_transfer_loss, attention_weights_loss, image_attention,
                        image_values, value_relations, value_relations_loss)
from .joining import align
from .mimicking import (DeepGeneration, Hint, LiftedLastLayer, ShallowMimic, hint_loss,
                        lift_last_layer, whiten)
from .structured import (Manifold, Relational, Similarity, manifold_loss, relational_loss,
                         similarity_loss)

__all__ = ["AttentionTransfer", "AttentionWeights", "DeepGeneration", "Hint", "LiftedLastLayer",
           "Manifold", "Relational", "ShallowMimic", "Similarity", "ValueRelations", "align",
           "attention_map", "attention_transfer_loss", "attention_weights_loss", "hint_loss",
           "image_attention", "image_values", "lift_last_layer", "manifold_loss", "relational_loss",
           "similarity_loss", "value_relations", "value_relations_loss", "whiten"]
