"""Structured pruning, against Torch-Pruning's numbers where its recipe is the same."""

from collections.abc import Iterator
from typing import Any

import torch
from drawn_weights import fill, pictures
from torch import Tensor, nn

from lightvit_lab import models, profiling
from lightvit_lab.compression.pruning.importance import scores
from lightvit_lab.compression.pruning.structure import apply_pruning

from ..cases import Case, call_of
from . import Found, NotCovered, adapter
from .shared import parameters, weight_rows


@adapter(
    "a ViT cut by Torch-Pruning",
    lambda case: case.source == "torch-pruning" and "settings" in case.facts,
)
@torch.inference_mode()
def run(case: Case) -> Found:
    """Logits, shapes, weights and cost of the smaller model."""
    settings = case.facts["settings"]
    model = fill(models.create_model(case.facts["arch"]))
    yield "before.params", parameters(model)
    for plan in torch_pruning_plans(model, settings):
        model = apply_pruning(model, plan)
    size = (model.patch_embed.proj.in_channels, *model.patch_embed.img_size)
    yield from _of_model(model, pictures(settings.get("example_input_seed", 0), 1, *size))
    yield "after.torch_flop_counter", profiling.count(model, size).flops


def _of_model(model: nn.Module, images: Tensor) -> Found:
    logits = model.eval()(images)
    yield "logits", logits
    yield "logits_stats", logits
    yield "logits_first10", logits[0, :10]
    yield "after.params", parameters(model)
    yield "after.embed_dim", model.embed_dim
    yield "state_dict", weight_rows(model)
    for place, block in enumerate(model.blocks):
        attention = block.attn
        yield f"after.blocks.{place}.num_heads", attention.num_heads
        yield f"after.blocks.{place}.head_dim", attention.head_dim
        yield f"after.blocks.{place}.qkv_out", attention.qkv.weight.shape[0]
        yield f"after.blocks.{place}.mlp_hidden", block.mlp.fc2.weight.shape[1]


def torch_pruning_plans(model: nn.Module, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Torch-Pruning's choice: all groups scored first; dimensions by their mean over heads, the
    same in every head.
    """
    if settings.get("global_pruning") or "Magnitude" not in settings["importance"]:
        raise NotCovered("only magnitudes within each layer are chosen by the same rule in both")
    power, share = call_of(settings["importance"])[2].get("p", 2), 1 - settings["pruning_ratio"]
    parts = ("mlp", "heads", "head_width", "embedding")
    found = {part: scores(model, part, "magnitude", power=power) for part in parts}
    if not settings["bottleneck"]:
        yield _plan("embedding", _best(found["embedding"]["embedding"], share))
    yield _plan("mlp", {name: _best(values, share) for name, values in found["mlp"].items()})
    if settings["prune_num_heads"]:
        left = 1 - settings["head_pruning_ratio"]
        yield _plan("heads", {name: _best(values, left) for name, values in found["heads"].items()})
    else:
        same = {
            name: (values.shape[1], _best(values.pow(power).sum((0, 1)), share))
            for name, values in found["head_width"].items()
        }
        yield _plan(
            "head_width",
            {
                name: {"qk": [dims] * heads, "v": [dims] * heads}
                for name, (heads, dims) in same.items()
            },
        )


def _plan(part: str, kept: Any) -> dict[str, Any]:
    return {"transform": "prune", "part": part, "kept": kept}


def _best(values: Tensor, share: float) -> list[int]:
    """The numbers of the highest `share` of values, rising."""
    return values.topk(int(len(values) * share + 1e-9)).indices.sort().values.tolist()
