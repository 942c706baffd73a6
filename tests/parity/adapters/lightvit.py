"""LightViT and its parts, against the authors' code."""

import re
from collections.abc import Callable
from typing import Any

import torch
from drawn_weights import fill
from torch import Tensor, nn

from lightvit_lab import models
from lightvit_lab.models.lightvit import (
    BiAttn,
    LightViTBlock,
    LightViTStem,
    LightViT,
    LightViTAttention,
    ResidualMergePatch,
    sort_into_windows,
)

from ..cases import Case, call_of
from . import Found, NotCovered, adapter
from .shared import drop_bias, flops, of_logits, parameters, weight_rows

# What says nothing in eval mode; the authors' stem looks at no patch size, and is 8 pixels a token.
SAYS_NOTHING = set(
    "drop attn_drop proj_drop drop_rate attn_drop_rate drop_path drop_path_rate img_size "
    "weight_init patch_size".split()
)


def _constructor(case: Case) -> str:
    return str(case.facts.get("constructor")) if case.source == "hunto/LightViT" else ""


def _settings(case: Case) -> dict[str, Any]:
    """What the case gave the constructor, less what changes nothing."""
    return {
        key: value for key, value in case.facts.get("kwargs", {}).items() if key not in SAYS_NOTHING
    }


@adapter(
    "LightViT",
    lambda case: _constructor(case) == "LightViT" or _constructor(case) in models.PUBLISHED,
)
@torch.inference_mode()
def run_model(case: Case) -> Found:
    """Logits, tokens after every part, weights and cost."""
    model, images = _model(case), case.tensor()
    tokens = {f"stages.{i}": tokens for i, (tokens, _) in enumerate(model.run_stages(images))}
    normed = model.norm(tokens[f"stages.{len(tokens) - 1}"])
    yield from of_logits(model(images))
    yield "forward_features", model.forward_head(model.forward_features(images), pre_logits=True)
    for name, value in tokens.items():
        yield f"stage{name.removeprefix('stages.')}_token0_16", value[:, :16]
    parts = tokens | {
        "patch_embed": model.patch_embed(images)[0],
        "norm": normed,
        "neck": model.neck(normed),
    }
    for name, value in parts.items():
        yield f"features.{name}", value
    yield "params", parameters(model)
    yield "buffers", sum(value.numel() for value in model.buffers())
    yield "state_dict", weight_rows(model)
    yield "flops.torch_flop_counter", flops(case, model) + 2 * macs_spared(model, images)


def _model(case: Case) -> LightViT:
    arguments = _settings(case)
    biased = arguments.pop("qkv_bias", True)
    if "in_chans" in arguments:
        arguments["in_channels"] = arguments.pop("in_chans")
    name = _constructor(case)
    model = LightViT(**arguments) if name == "LightViT" else models.create_model(name, **arguments)
    for module in model.modules():
        if isinstance(module, LightViTAttention):
            _drop_biases(module, biased)
    return fill(model)


def _drop_biases(attention: LightViTAttention, keep: bool) -> None:
    """The biases of queries, keys and values come and go together, those of global tokens too."""
    for layer in (attention.qkv, attention.kv_global):
        if layer is not None:
            drop_bias(layer, keep)


def macs_spared(model: LightViT, images: Tensor) -> int:
    """What the library's gates spare: the mean's half of the spatial gate, dim / 4 products, is
    made once, not N times.
    """
    counts = [tokens.shape[1] for tokens, _ in model.run_stages(images[:1])]
    return sum(
        block.mlp.attn.norm.normalized_shape[0] // 4 * (count - 1)
        for stage, count in zip(model.stages, counts)
        for block in stage
        if isinstance(block, LightViTBlock)
    )


def _is_backbone(case: Case) -> bool:
    return case.source.startswith("hunto/LightViT") and "out_indices" in case.call


@adapter("LightViT's stages in a detector", _is_backbone)
@torch.inference_mode()
def run_backbone(case: Case) -> Found:
    """The map of each stage after a norm of its own, which that model has and ours has not."""
    name, _, arguments = call_of(case.call)
    taken = arguments.pop("out_indices")
    published = {"num_tokens": 512, **arguments, "padding": "published", "drop_global_tokens": True}
    model = models.create_model(name, **published) if name in models.PUBLISHED else LightViT(
        **published
    )
    norms = nn.ModuleDict(
        {f"norm{i}": nn.LayerNorm(model.feature_info[i]["num_chs"], eps=1e-6) for i in taken}
    )
    fill(model), fill(norms)
    maps = model.forward_intermediates(case.tensor(), taken, intermediates_only=True)
    shapes = []
    for stage, found in zip(taken, maps):
        normed = norms[f"norm{stage}"](found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        yield f"stage{stage}", normed
        yield f"stats.stage{stage}", normed
        shapes.append(list(normed.shape))
    yield "stage_shapes", shapes
    model.norm = model.neck = model.head = nn.Identity()
    yield "params", parameters(model) + parameters(norms)
    yield "state_dict", weight_rows(model) + weight_rows(norms)


def _stem(case: Case, dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    stem = LightViTStem(dim, in_channels=_settings(case).get("in_chans", 3))
    return stem, lambda images: stem(images)[0]


def _gates(case: Case, dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    if _settings(case).get("act_ratio", 0.25) != 0.25:
        raise NotCovered("gates that work on another share of the channels than a quarter")
    gates = BiAttn(dim)
    return gates, gates


def _merge(case: Case, dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    settings = _settings(case)
    merge = ResidualMergePatch(dim, settings["out_dim"], settings.get("num_tokens", 1))
    return merge, lambda tokens: merge(tokens, _grid(case))[0]


def _attention(case: Case, dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    settings = _settings(case)
    sizes = {
        key: settings[key] for key in ("num_heads", "num_tokens", "window_size") if key in settings
    }
    attention = LightViTAttention(dim, **{"num_heads": 8, "num_tokens": 1} | sizes)
    _drop_biases(attention, settings.get("qkv_bias", False))
    return attention, _in_windows(case, attention, attention)


def _block(case: Case, dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    settings = _settings(case)
    sizes = {
        key: settings[key]
        for key in ("num_heads", "num_tokens", "window_size", "mlp_ratio")
        if key in settings
    }
    block = LightViTBlock(dim, **{"num_tokens": 1} | sizes)
    block.norm1.eps = block.norm2.eps = 1e-5  # of a block built alone; in the model it is 1e-6
    _drop_biases(block.attn, settings.get("qkv_bias", False))
    return block, _in_windows(case, block, block.attn)


def _grid(case: Case) -> tuple[int, int]:
    """Rows and columns of image tokens, from the words `m(x, 14, 14)`."""
    rows, columns = re.search(r"\(x,\s*(\d+),\s*(\d+)\)", case.call).groups()
    return int(rows), int(columns)


def _in_windows(
    case: Case, layer: nn.Module, attention: LightViTAttention
) -> Callable[[Tensor], Tensor]:
    """A layer that works in window order, given and giving the global tokens and the map in
    reading order.
    """
    windows = sort_into_windows(_grid(case), attention.window_size, attention.num_tokens)
    return lambda tokens: layer(tokens[:, windows.order], windows)[:, windows.inverse]


PARTS = {
    "ConvStem": (_stem, "embed_dim"),
    "BiAttn": (_gates, "in_channels"),
    "ResidualMergePatch": (_merge, "dim"),
    "LightViTAttention": (_attention, "dim"),
    "Block": (_block, "dim"),
}


@adapter("a part of LightViT", lambda case: _constructor(case) in PARTS)
@torch.inference_mode()
def run_part(case: Case) -> Found:
    """What one module gives out, and its weights."""
    make, width = PARTS[_constructor(case)]
    module, call = make(case, _settings(case)[width])
    fill(module)
    output = call(case.tensor())
    yield "y", output
    yield "output", output
    yield "params", parameters(module)
    yield "state_dict", weight_rows(module)
