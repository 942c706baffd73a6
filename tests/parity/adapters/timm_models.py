"""Whole models of timm, through the library's `create_model`; a plain ViT through the lab's own
as well.
"""

from typing import Any

import torch
import torch.nn.functional as F
from drawn_weights import fill
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightvit_lab.models.vision_transformer import VisionTransformer
from lightvit_lab.profiling.counting import own_costs

from ..cases import Case, call_of
from . import Found, adapter
from .shared import flops, of_logits, parameters, timm_model, weight_rows


def _is_timm_model(case: Case) -> bool:
    return case.source == "timm" and call_of(case.call)[0] == "timm.create_model"


@adapter("a model of timm", _is_timm_model)
@torch.inference_mode()
def run(case: Case) -> Found:
    """Logits, tokens, weights and cost of each implementation that the library has."""
    model, images = timm_model(case), case.tensor()
    own = lab_model(model)
    for one in [model] if own is None else [model, own]:
        outputs = _outputs(one, images, [name.removeprefix("stats.") for name in case.expected()])
        yield from of_logits(outputs["logits"])
        for name, output in outputs.items():
            yield f"stats.{name}", output
        tokens = one.forward_features(images)
        yield "features_stats", tokens
        yield "tokens_first4", tokens[:, :4]
        yield "params", parameters(one)
        yield "state_dict", weight_rows(one)
        yield "flops.torch_flop_counter", flops(case, one)
        counted = 2 * sum(own_costs(one, images, "parity").macs.values())
        yield "torch_flop_counter", counted - fused_attention_flops(one, images)


def lab_model(model: nn.Module) -> VisionTransformer | None:
    """The lab's own ViT of the sizes of timm's `model`; None where timm's is no plain one of
    square pictures.
    """
    if not isinstance(model, TimmVisionTransformer) or len(set(model.patch_embed.img_size)) > 1:
        return None
    block, distilled = model.blocks[0], getattr(model, "dist_token", None) is not None
    ours = VisionTransformer(
        model.patch_embed.img_size[0],
        model.patch_embed.patch_size[0],
        model.patch_embed.proj.in_channels,
        model.num_classes,
        model.embed_dim,
        len(model.blocks),
        block.attn.num_heads,
        block.mlp.fc1.out_features / model.embed_dim,
        embedding="patch",
        distilled=distilled,
    )
    return fill(ours) if _same_weights(ours, model) and model.global_pool == "token" else None


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    return sorted(map(str, weight_rows(one))) == sorted(map(str, weight_rows(other)))


def _outputs(model: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """What the modules of these names gave out in one forward, and the logits; other names are
    left alone.
    """
    outputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _given, output, name=name: outputs.update({name: output})
        )
        for name, module in model.named_modules()
        if name and name in names
    ]
    logits = model(images)
    for handle in handles:
        handle.remove()
    return outputs | {"logits": logits}


class _Watch(TorchFunctionMode):
    """Adds up the two products of every fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self.flops += (
                2 * query.numel() * key.shape[-2]
                + 2 * value.shape[-1] * query[..., 0].numel() * key.shape[-2]
            )
        return func(*args, **(kwargs or {}))


def fused_attention_flops(model: nn.Module, images: Tensor) -> int:
    """What torch's counter leaves out on a CPU, whose fused attention it has no formula for; the
    library counts it.
    """
    with _Watch() as watch:
        model(images)
    return watch.flops
