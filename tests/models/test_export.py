"""A model leaves Python with a free batch size: what torch.export writes says the same for any batch.

Left out are forwards whose shapes depend on what they see: adaptive sampling, halting, skipping, a
second look, leaving by a rule.
"""

import pytest
import torch
from drawn_weights import pictures

from lightvit_lab import models
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.low_rank.attention import replace_attention
from lightvit_lab.compression.pruning.pruners import (prune_blocks, prune_embedding, prune_head_width, prune_heads,
                                              prune_mlp)
from lightvit_lab.compression.pruning.unstructured import prune_weights
from lightvit_lab.dynamic.early_exit.exits import add_exits
from lightvit_lab.dynamic.token_merging.diffrate import reduce_tokens
from lightvit_lab.dynamic.token_merging.merging import merge_tokens
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens

LAB = ("lab_vit", {"dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8})
TIMM = ("deit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2,
                                  "num_classes": 10})
MODELS = {
    "lab_vit": LAB, "distilled": (LAB[0], {**LAB[1], "distilled": True}),
    "lab_vit, written attention": (LAB[0], {**LAB[1], "fused": False}),
    "lab_cct": ("lab_cct", {"widths": (16, 24), "stem": 8, "num_heads": 3}),
    "lab_cnn": ("lab_cnn", {"widths": (8, 16)}),
    "lab_lightvit": ("lab_lightvit", {"embed_dims": (24, 24), "num_layers": (2, 1), "num_heads": (3, 3),
                                      "neck_dim": 32}),
    "lab_lightvit, windows that do not fit": ("lab_lightvit", {
        "embed_dims": (24, 24), "num_layers": (2, 1), "num_heads": (3, 3), "neck_dim": 32,
        "window_size": 3}),
}
TRANSFORMS = {
    "prune_mlp": lambda model: prune_mlp(model, 0.5),
    "prune_heads": lambda model: prune_heads(model, 0.3),
    "prune_head_width": lambda model: prune_head_width(model, 0.5),
    "prune_embedding": lambda model: prune_embedding(model, 0.5),
    "prune_blocks": lambda model: prune_blocks(model, 0.5),
    "prune_weights": lambda model: prune_weights(model, 0.5),
    "factorize": lambda model: factorize(model, rank=4),
    "factorize by head": lambda model: factorize(model, rank=4, qkv="per_head"),
    "linformer": lambda model: replace_attention(model, "linformer", 4),
    "nystrom": lambda model: replace_attention(model, "nystrom", 4),
    "merge_tokens": lambda model: merge_tokens(model, 3),
    "merge_tokens, restored": lambda model: merge_tokens(model, 3, mode="tofu", restore=True),
    "merge_tokens, clusters": lambda model: merge_tokens(model, 3, matching="clusters"),
    "reduce_tokens": lambda model: reduce_tokens(model, [2, 1], [0, 3]),
    "evit": lambda model: prune_tokens(model, 0.5, [0, 1]),
    "topk": lambda model: prune_tokens(model, 0.5, [0], "topk"),
    "dynamicvit": lambda model: prune_tokens(model, 0.5, [0], "dynamicvit"),
    "exits without a rule": lambda model: add_exits(model, [0]),
}
ON_TIMM = ("prune_head_width", "linformer", "merge_tokens, restored", "reduce_tokens", "evit", "dynamicvit", "exits without a rule")
CASES = {**{name: (recipe, None) for name, recipe in MODELS.items()},
         **{f"{name} of the lab's": (LAB, change) for name, change in TRANSFORMS.items()},
         **{f"{name} of timm's": (TIMM, TRANSFORMS[name]) for name in ON_TIMM}}


@pytest.mark.parametrize("case", CASES)
def test_an_exported_model_takes_batches_of_any_size(case):
    (name, arguments), change = CASES[case]
    torch.manual_seed(0)
    model = models.create_model(name, **arguments).eval()
    model = model if change is None else change(model)
    batch = torch.export.Dim("b", min=2, max=64)
    # torch 2.5 exports LightViT in strict mode alone, and merging in the other alone
    strict = name == "lab_lightvit" and torch.__version__.startswith("2.5")
    exported = torch.export.export(model, (pictures(0, 4, 3, 32, 32),), dynamic_shapes=({0: batch},),
                                   strict=strict).module()
    for count in (3, 5):
        inputs = pictures(count, count, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(exported(inputs), model(inputs), atol=1e-5)
