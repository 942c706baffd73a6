"""EViT, against the official code: one block, and a whole model."""

import re

import torch
from drawn_weights import fill
from torch import Tensor, nn

from lightvit_lab import models
from lightvit_lab.dynamic.token_pruning.choosing import Choose, kept_count
from lightvit_lab.dynamic.token_pruning.pruning import PruningBlock, prune_tokens, select_tokens
from lightvit_lab.models.vision_transformer import Block

from ..cases import Case, call_of
from . import Found, adapter
from .shared import drop_bias, flops, of_logits, parameters, tokens_after_blocks, weight_rows


def _calls(case: Case, name: str) -> bool:
    return case.source == "youweiliang/evit" and call_of(case.call)[0].rpartition(".")[2] == name


@adapter("a block of EViT", lambda case: _calls(case, "Block"), settings=("keep_rate", "fuse"))
@torch.inference_mode()
def run_block(case: Case) -> Found:
    """Attention, who is kept, the tokens before and after the choice, and what comes out."""
    settings = call_of(case.call)[2]
    keep_rate, fuse = settings.get("keep_rate", 1.0), settings.get("fuse_token", False)
    whole, tokens = _block(settings), case.tensor("x")
    weights = whole.attn.weights(whole.norm1(tokens))
    scores = weights[:, :, 0, 1:].mean(1)
    block = PruningBlock(whole, 1, keep_rate, fuse)
    kept = block.choose(scores, kept_count(keep_rate, scores.shape[1]))
    mixed = tokens + whole.attn(whole.norm1(tokens))
    selected, output = select_tokens(mixed, scores, kept, fuse=fuse), block(tokens)
    yield from {
        "attn": weights,
        "x_res": mixed,
        "idx": kept,
        "compl": _others(kept, scores.shape[1]),
        "after_selection": selected,
        "y": output,
        "left_tokens": kept.shape[1],
        "n_tokens_out": output.shape[1],
        "state_dict": weight_rows(block),
    }.items()


def _block(settings: dict[str, object]) -> Block:
    block = Block(settings["dim"], settings["num_heads"], settings.get("mlp_ratio", 4.0))
    drop_bias(block.attn.qkv, settings.get("qkv_bias", False))
    eps = re.search(r"eps=([\d.e-]+)", str(settings.get("norm_layer")))
    block.norm1.eps = block.norm2.eps = float(eps[1]) if eps else 1e-5
    return fill(block)


def _others(kept: Tensor, count: int) -> Tensor:
    """The numbers below `count` that are not among `kept` (batch, k), rising."""
    gone = torch.ones(len(kept), count, dtype=torch.bool).scatter(1, kept, False)
    return gone.nonzero()[:, 1].view(len(kept), -1)


@adapter("EViT", lambda case: _calls(case, "EViT"), settings=("keep_rate", "fuse"))
@torch.inference_mode()
def run_model(case: Case) -> Found:
    """Logits, who is kept at every stage, how many are left, and the cost."""
    settings, images = call_of(case.call)[2], case.tensor()
    rates = settings["keep_rate"]
    layers = [layer for layer, rate in enumerate(rates) if rate < 1]
    model = prune_tokens(
        _model(case, settings),
        [rates[layer] for layer in layers],
        layers,
        fuse=settings.get("fuse_token", False),
    )
    yield from of_logits(model(images))
    for stage, places in enumerate(_chosen(model, images)):
        yield f"idx_{stage}", places
    counts = [count - 1 for count in tokens_after_blocks(model, images[:1])]
    yield "patch_tokens_after_block", counts
    yield "params", parameters(model)
    yield "state_dict", weight_rows(model)
    yield "flops.torch_flop_counter", flops(case, model) - 2 * macs_added(
        model, [model.patch_embed.num_patches, *counts]
    )


def _model(case: Case, settings: dict[str, object]) -> nn.Module:
    sizes = {
        key: settings[key]
        for key in ("embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias")
        if key in settings
    }
    return fill(
        models.create_model(
            "deit_tiny_patch16_224",
            img_size=case.image_shape()[1:],
            patch_size=settings.get("patch", settings.get("patch_size", 16)),
            num_classes=settings.get("num_classes", case.arrays["logits"].shape[1]),
            **sizes,
        )
    )


@torch.no_grad()
def _chosen(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The places that each stage keeps, among the tokens that it was given."""
    found: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _module, _given, places: found.append(places))
        for module in model.modules()
        if isinstance(module, Choose)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return found


def macs_added(model: nn.Module, counts: list[int]) -> int:
    """What the library multiplies beside the published products: one row of scores, and the fused
    token as a product.

    Fused attention never shows its weights, so the class token's row is made again.
    """
    added = 0
    for block, patches in zip(model.blocks, counts):
        if isinstance(block, PruningBlock):
            dim = block.attn.proj.in_features
            added += (1 + patches) * dim + block.fuse * patches * dim
    return added
