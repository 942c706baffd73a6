"""Teachers run once for every student that sees the same views: their logits, kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import data
from ..distillation.model_outputs import LiveTeacher
from ..distillation.response_distillation import StoredLogits, store_logits
from .kit import cache_file

DECIDE = ("steps", "batch_size", "seed", "augment", "progress")     # which views a run sees


def stored_logits(teacher: nn.Module, pictures: data.Pictures, settings: Mapping[str, Any],
                  dataset: str) -> StoredLogits:
    """What `teacher` says of every view of a run of `settings`, from the cache if it ran before."""
    views = deciding(settings)
    run = f"{LiveTeacher(teacher).identity} {views} {dataset}"
    name = f"logits-{hashlib.sha256(run.encode()).hexdigest()[:20]}.safetensors"
    return store_logits(teacher, pictures, cache_file(name), **views)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of the `settings` of a run `store_logits` has to know."""
    return {name: settings[name] for name in DECIDE}
