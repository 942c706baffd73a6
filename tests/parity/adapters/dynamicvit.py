"""DynamicViT, against the official code: the predictor, the masked softmax, and a whole model in
eval mode.
"""

import re

import torch
from drawn_weights import fill
from torch import nn

from lightvit_lab import models
from lightvit_lab.dynamic.token_pruning.dynamicvit import Predictor, masked_softmax
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens

from ..cases import Case, call_of
from . import Found, adapter
from .shared import flops, of_logits, parameters, tokens_after_blocks, weight_rows


def _calls(case: Case, name: str) -> bool:
    return case.source == "raoyongming/DynamicViT" and call_of(case.call)[0] == name


@adapter("DynamicViT's predictor", lambda case: _calls(case, "PredictorLG"))
@torch.inference_mode()
def run_predictor(case: Case) -> Found:
    """Log-probabilities of keeping and dropping."""
    _, arguments, settings = call_of(case.call)
    predictor = fill(Predictor(settings["embed_dim"] if "embed_dim" in settings else arguments[0]))
    yield "y", predictor(case.tensor("x"), case.tensor("policy"))
    yield "params", parameters(predictor)
    yield "state_dict", weight_rows(predictor)


@adapter("DynamicViT's masked softmax", lambda case: _calls(case, "Attention.softmax_with_policy"))
def run_softmax(case: Case) -> Found:
    """Attention weights under a mask."""
    eps = call_of(case.call)[2].get("eps", 1e-6)
    yield "y", masked_softmax(case.tensor("attn"), case.tensor("policy")[:, None, None, :, 0], eps)


@adapter("DynamicViT", lambda case: _calls(case, "VisionTransformerDiffPruning"))
@torch.inference_mode()
def run_model(case: Case) -> Found:
    """Logits, how many tokens are left, weights and cost."""
    settings, images = call_of(case.call)[2], case.tensor()
    shares, layers = settings["token_ratio"], settings["pruning_loc"]
    ratios = [share / before for share, before in zip(shares, [1.0, *shares])]
    model = prune_tokens(_model(case, settings), ratios, layers, "dynamicvit")

    def published(key: str) -> str:
        """The predictors of all blocks come under one name, counted."""
        found = re.match(r"blocks\.(\d+)\.predictor\.(.*)", key)
        return f"score_predictor.{layers.index(int(found[1]))}.{found[2]}" if found else key

    fill(model, published)
    yield from of_logits(model(images))
    yield "tokens_after_block", tokens_after_blocks(model, images[:1])
    yield "params", parameters(model)
    yield "state_dict", weight_rows(model, published)
    yield "flops.torch_flop_counter", flops(case, model)


def _model(case: Case, settings: dict[str, object]) -> nn.Module:
    sizes = {
        key: settings[key]
        for key in ("embed_dim", "depth", "mlp_ratio", "qkv_bias")
        if key in settings
    }
    return models.create_model(
        "deit_tiny_patch16_224",
        img_size=case.image_shape()[1:],
        patch_size=settings.get("patch", settings.get("patch_size", 16)),
        num_heads=settings.get("heads", settings.get("num_heads")),
        num_classes=settings.get("num_classes", case.arrays["logits"].shape[1]),
        **sizes,
    )
