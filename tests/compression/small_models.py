"""Models of a few thousand weights, of every kind that pruning knows, and models with units silenced by hand."""

import copy

import torch
import torch.nn.functional as F
from drawn_weights import fill
from torch import nn

from lightvit_lab import models

PICTURES = (6, 3, 32, 32)
LAB = ("lab_vit", {"dim": 24, "depth": 3, "num_heads": 3, "patch_size": 8, "mlp_ratio": 2.0})
DISTILLED = ("lab_vit", {**LAB[1], "embedding": "patch", "distilled": True, "fused": False})
TIMM = ("deit_tiny_distilled_patch16_224", {"img_size": 32, "depth": 3, "embed_dim": 24, "mlp_ratio": 2.0,
                                            "num_classes": 10})
SCALED = ("vit_tiny_patch16_224", {**TIMM[1], "init_values": 0.5, "reg_tokens": 2, "global_pool": "avg"})
LIGHTVIT = ("lab_lightvit", {"embed_dims": (24, 24), "num_layers": (2, 2), "num_heads": (3, 3), "mlp_ratios": (2, 2),
                             "neck_dim": 32})
EVERY = {"lab": LAB, "distilled": DISTILLED, "timm": TIMM, "scaled": SCALED, "lightvit": LIGHTVIT}
PLAIN = tuple(name for name in EVERY if name != "lightvit")


def small(kind="lab", unfused=False, **changes):
    name, arguments = EVERY[kind]
    model = fill(models.create_model(name, **{**arguments, **changes}))
    for part in model.modules():
        if unfused and hasattr(part, "fused_attn"):
            part.fused_attn = False
    return model


class KeptNorm(nn.Module):
    """A LayerNorm over the channels `kept`; zeros elsewhere."""

    def __init__(self, norm, kept):
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, tokens):
        weight, bias = self.norm.weight[self.kept], self.norm.bias[self.kept]
        seen = F.layer_norm(tokens[..., self.kept], (len(self.kept),), weight, bias, self.norm.eps)
        return torch.zeros_like(tokens).index_copy(-1, torch.tensor(self.kept), seen)


class Skip(nn.Module):
    def forward(self, tokens, *others, **more):
        return tokens


@torch.no_grad()
def silenced(model, part, kept):
    """`model` of its full size, in which what `kept` leaves out says nothing."""
    model = copy.deepcopy(model)
    if part == "blocks":
        for name in [name for name, block in model.named_modules() if hasattr(block, "attn") and hasattr(block, "mlp")]:
            if name not in kept:
                parent, place = name.rsplit(".", 1)
                model.get_submodule(parent)[int(place)] = Skip()
        return model
    if part == "embedding":
        for name, norm in [(name, norm) for name, norm in model.named_modules() if isinstance(norm, nn.LayerNorm)]:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, KeptNorm(norm, kept))
        return model
    for name, index in kept.items():
        layer = model.get_submodule(name)
        if part == "mlp":
            layer.fc2.weight[:, others(index, layer.fc2.in_features)] = 0
        else:
            silence_head_dims(layer, part, index)
    return model


def silence_head_dims(attention, part, kept):
    heads, width = attention.num_heads, attention.proj.in_features
    dim = width // heads
    if part == "heads":
        gone = [head * dim + place for head in others(kept, heads) for place in range(dim)]
        qk_gone, v_gone = [], gone
    else:
        qk_gone, v_gone = ([head * dim + place for head in range(heads) for place in others(kept[which][head], dim)]
                           for which in ("qk", "v"))
    layers = [(attention.qkv, (0, width))] + ([(attention.kv_global, (0,))] if hasattr(attention, "kv_global") else [])
    for layer, starts in layers:
        for start in starts:
            rows = [start + place for place in qk_gone]
            layer.weight[rows], layer.bias[rows] = 0, 0
    attention.proj.weight[:, v_gone] = 0
    if hasattr(attention, "kv_global"):
        attention.kv_global.weight[:, v_gone] = 0


def others(index, size):
    return [place for place in range(size) if place not in index]
