"""Rollout and layer-wise relevance, against the authors' code."""

import re
from collections.abc import Sequence

import torch
from drawn_weights import fill, pictures
from torch import Tensor

from lightvit_lab.explain import class_attention, record_attention, relevance, rollout, rollout_map
from lightvit_lab.explain.layerwise import attention_relevance
from lightvit_lab.explain.relevance import attention_gradients, propagate
from lightvit_lab.models.vision_transformer import VisionTransformer

from ..cases import Case, call_of
from ..comparing import Near
from . import NOT_COMPARED, Found, NotCovered, adapter
from .shared import drop_bias, parameters, timm_model, weight_rows

SCRIPT, AUTHORS = "jacobgil/vit-explain", "hila-chefer/Transformer-Explainability"
OTHER_RULE = "that script divides a row's entries by the sums of other rows; the library does not"
NOT_COMPARED[re.compile(r"^(grad_)?rollout_[\w.]+$|^mask$")] = OTHER_RULE
NOT_COMPARED[re.compile(r"^full$")] = "the library hands relevance back to patches, not to pixels"


@adapter(
    "rollout of given attention", lambda case: case.source == SCRIPT and "attentions" in case.arrays
)
def run_rollout(case: Case) -> Found:
    """Masks by every fusion and share discarded that the case names: where rows sum to one, both
    rules are the same.
    """
    maps = [block[None] for block in case.tensor("attentions")]
    slopes = (
        [block[None] for block in case.tensor("gradients")] if "gradients" in case.arrays else []
    )
    for name in list(case.arrays):
        found = re.fullmatch(r"(grad_)?rollout_(?:(mean|max|min)_)?([\d.]+?)(_keepdim)?", name)
        if not found:
            continue
        by_gradient, fusion, ratio = bool(found[1]), found[2] or "mean", float(found[3])
        if found[4] or (fusion == "mean" and not ratio and not by_gradient):
            flow = (
                rollout(_by_gradient(maps, slopes, ratio))
                if by_gradient
                else rollout(maps, fusion, ratio)
            )
            yield name, _mask(flow[0, 0, 1:])


def _by_gradient(maps: Sequence[Tensor], slopes: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """What gradient rollout multiplies: attention times its gradient, where positive, less the
    lowest share of it.

    The script may drop the class token's own entry here, which the library's `discard_ratio` never
    does.
    """
    fused = [(block * slope).mean(1).clamp_min(0).flatten(1) for block, slope in zip(maps, slopes)]
    lowest = [flat.topk(int(flat.shape[1] * ratio), largest=False).indices for flat in fused]
    return [
        flat.scatter(1, index, 0.0).view_as(block[:, 0])[:, None]
        for flat, index, block in zip(fused, lowest, maps)
    ]


def _mask(row: Tensor) -> Tensor:
    """The patches' part of a row as a square, divided by its largest value."""
    side = round(len(row) ** 0.5)
    return (row / row.max()).view(side, side)


@adapter(
    "rollout through a model of timm",
    lambda case: case.source == SCRIPT and "AttentionRollout" in case.call,
)
@torch.inference_mode()
def run_rollout_of_model(case: Case) -> Found:
    """The mask, where both rules of normalisation are the same, and the last block's attention."""
    settings, images = call_of(case.call)[2], case.tensor()
    model = timm_model(case, re.search(r"timm (\w+)", case.call)[1])
    with record_attention(model) as maps:
        model(images)
    yield "last_attention_cls_row", maps[-1][0, :, 0]
    if settings.get("head_fusion", "mean") == "mean" and not settings.get("discard_ratio", 0.9):
        mask = rollout_map(model, images)[0]
        yield "mask", mask / mask.max()


@adapter(
    "rollout of a batch",
    lambda case: case.source == AUTHORS and "compute_rollout_attention(" in case.call,
)
def run_rollout_of_batch(case: Case) -> Found:
    """Attention multiplied through all blocks from one on, rows normalised."""
    start = call_of(case.call, r"[\w.]*compute_rollout_attention")[2].get("start_layer", 0)
    yield "joint", rollout([block[:, None] for block in case.tensor("mats")[start:]])


@adapter(
    "layer-wise relevance", lambda case: case.source == AUTHORS and "generate_LRP" in case.call
)
def run_relevance(case: Case) -> Found:
    """Attention, gradient and relevance of every block, and the maps made of them."""
    if call_of(case.call, r"[\w.]*generate_LRP")[2].get("alpha", 1) != 1:
        raise NotCovered("layer-wise relevance with another alpha than 1")
    model, images = _model(case), case.tensor()
    weights, gradients, target = attention_gradients(model, images, _target(case))
    shares = attention_relevance(model, images, target)
    for block, (weight, gradient) in enumerate(zip(weights, gradients)):
        yield f"attn_{block}", weight
        yield f"attn_grad_{block}", gradient
    found, noise = _of_relevance(shares, gradients), _noise(model, images, target)
    for name, value in found.items():
        yield name, Near(value, 1e-4, noise[name])
    yield "transformer_attribution", Near(
        relevance(model, images, target, "layerwise")[:, 0, 1:],
        1e-4,
        noise["transformer_attribution"],
    )
    yield "logits", model(images)
    yield "last_layer_attn", class_attention(model, images).flatten()
    yield "params", parameters(model)
    yield "state_dict", weight_rows(model)


def _of_relevance(shares: list[Tensor], gradients: list[Tensor]) -> dict[str, Tensor]:
    """The relevance of every block's attention, and the published maps that are made of it."""
    plain = [torch.ones_like(share) for share in shares]
    maps = {
        "transformer_attribution": propagate(shares, gradients),
        "rollout": propagate(shares, plain),
        "transformer_attribution_start1": propagate(shares[1:], gradients[1:]),
    }
    return (
        {f"attn_cam_{block}": share for block, share in enumerate(shares)}
        | {name: flow[:, 0, 1:] for name, flow in maps.items()}
        | {"last_layer": shares[-1].clamp_min(0).mean(1)[0, 0, 1:]}
    )


def _noise(model: VisionTransformer, images: Tensor, target: Tensor) -> dict[str, float]:
    """How far each of these moves when the picture changes by a rounding error; twice that is
    allowed.

    Shares of sums near zero explode, so that two right implementations differ by as much as this.
    """
    found: list[dict[str, Tensor]] = []
    for seed in range(5):
        shaken = images * (1 + 2e-7 * pictures(seed, *images.shape) * bool(seed))
        gradients = attention_gradients(model, shaken, target)[1]
        found.append(_of_relevance(attention_relevance(model, shaken, target), gradients))
    return {
        name: max(2e-7, *(2 * (one[name] - found[0][name]).abs().max().item() for one in found[1:]))
        for name in found[0]
    }


def _target(case: Case) -> int | None:
    """The class asked for; None is the predicted one."""
    index = call_of(case.call, r"[\w.]*generate_LRP")[2].get("index")
    return index if isinstance(index, int) else None


def _model(case: Case) -> VisionTransformer:
    """The lab's ViT of the sizes given, with the final norm's eps of the authors' code."""
    sizes = call_of(case.facts["model"])[2]
    model = VisionTransformer(
        sizes["img_size"],
        sizes["patch_size"],
        sizes.get("in_chans", 3),
        sizes["num_classes"],
        sizes["embed_dim"],
        sizes["depth"],
        sizes["num_heads"],
        sizes.get("mlp_ratio", 4.0),
        embedding="patch",
    )
    for block in model.blocks:
        drop_bias(block.attn.qkv, sizes.get("qkv_bias", False))
    model.norm.eps = 1e-5
    return fill(model)
