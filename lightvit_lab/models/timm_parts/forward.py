"""The forward of a plain ViT, the lab's or timm's, in steps that others can stop between.

`finish(model, run(embed(model, inputs)))`, where `run` calls the blocks one after the other, is
`model(inputs)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from ...components import Attention, attend, join_heads, to_tokens
from ...errors import LabError, require_images
from ...runtime.wrapped import require_unwrapped
from ..vision_transformer import Block, VisionTransformer
from .attention import GIVE_VIT, plain_attention


def require_plain_vit(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, unless `model` is a ViT or DeiT with a head.

    It may be the lab's or timm's.
    """
    require_unwrapped(caller, model)
    kind = type(model).__name__
    if not isinstance(model, VisionTransformer | TimmVisionTransformer):
        raise LabError(f"{caller}: {kind} is no plain ViT, a row of blocks between patches and a "
                       f"head; {GIVE_VIT}")
    _require_attention(caller, model)
    require_no_lift(caller, model)
    if isinstance(model.head, nn.Identity) or getattr(model, "attn_pool", None) is not None:
        raise LabError(f"{caller}: this {kind} has no head on a class token or a mean of tokens; "
                       "give one with num_classes > 0 and without attention pooling")


def require_no_lift(caller: str, model: nn.Module) -> None:
    """Raise LabError, in the name of `caller`, for a model of `lift_last_layer`."""
    if len(model.blocks) and isinstance(model.blocks[-1], nn.Sequential):
        raise LabError(f"{caller}: this model's last layer was lifted (lift_last_layer): a linear "
                       "map and a norm end its row of blocks; give the model before, and lift last")


def _require_attention(caller: str, model: nn.Module) -> None:
    if (mixer := getattr(model, "mixer", "attention")) != "attention":
        raise LabError(f"{caller}: this model mixes its tokens by {mixer!r}, and blocks are called "
                       'here without the grid that it needs; give one with mixer="attention"')


def require_plain_blocks(caller: str, model: nn.Module,
                         layers: Sequence[int] | None = None) -> None:
    """Raise LabError, in the name of `caller`, unless blocks `layers` (None: all) are plain.

    Plain blocks add attention, then an MLP, each of normalised tokens, to what came in, as those of
    the lab's ViT and of timm's ViT and DeiT do.
    """
    require_unwrapped(caller, model)
    row = getattr(model, "blocks", None)
    if not isinstance(row, nn.ModuleList | nn.Sequential) or not len(row):
        kind = type(model).__name__
        raise LabError(f"{caller}: {kind} has no `blocks` in one row; {GIVE_VIT}")
    _require_attention(caller, model)
    for place in range(len(row)) if layers is None else layers:
        if (kind := type(row[place])).forward not in (Block.forward, TimmBlock.forward):
            raise LabError(f"{caller}: blocks.{place} is {kind.__name__}, no plain block of "
                           "attention and MLP; give the model before its blocks were replaced")


def plain_blocks(caller: str, model: nn.Module) -> nn.ModuleList | nn.Sequential:
    """`model.blocks`, if all are plain and with plain attention, as methods need that replace them.

    Raises LabError, in the name of `caller`, for any other.
    """
    require_plain_blocks(caller, model)
    for block in model.blocks:
        plain_attention(caller, block.attn)
    return model.blocks


def embed(model: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs (batch, channels, height, width) -> tokens (batch, tokens, dim) of the first block."""
    if isinstance(model, VisionTransformer):
        require_images("VisionTransformer", inputs, model.in_channels, model.image_size)
        return model.embed(inputs)
    return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(inputs))))


def finish(model: nn.Module, tokens: Tensor) -> Tensor:
    """Tokens (batch, tokens, dim) behind the last block -> logits (batch, classes)."""
    return model.forward_head(model.norm(tokens))


def embed_patches(embedding: nn.Module, images: Tensor) -> Tensor:
    """Images of any size -> tokens (batch, patches, dim), by the layers of a `patch_embed`."""
    tokens, _ = to_tokens(embedding.proj(images))
    return getattr(embedding, "norm", nn.Identity())(tokens)


def last_norm(model: nn.Module) -> nn.Module:
    """The norm before the head, whether it stands before the mean of the tokens or after it."""
    after = getattr(model, "fc_norm", nn.Identity())
    return model.norm if isinstance(after, nn.Identity) else after


def masked_block(caller: str, block: nn.Module, tokens: Tensor, keep: Tensor) -> Tensor:
    """`block` on tokens (B, N, dim), without attention to those where `keep` (B, N) is False.

    Raises LabError, in the name of `caller`, for other blocks than the lab's and timm's.
    """
    mask = keep[:, None, None]
    if isinstance(block, TimmBlock):
        return block(tokens, attn_mask=mask.expand(-1, 1, keep.shape[1], -1))
    if not isinstance(block, Block) or not isinstance(block.attn, Attention):
        raise LabError(f"{caller}: {type(block).__name__} is no block of the lab's ViT or timm's; "
                       "give the model before its blocks are replaced")
    heads = block.attn.split_heads(block.norm1(tokens))
    tokens = tokens + block.attn.proj(join_heads(attend(*heads, mask, block.attn.scale)))
    return tokens + block.mlp(block.norm2(tokens))


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, or the stages of another network, in order: for features.

    Raises LabError for a model that has neither.
    """
    for name in ("blocks", "stages"):
        found = getattr(model, name, None)
        if isinstance(found, nn.ModuleList | nn.Sequential) and len(found):
            return list(found)
    stages = [stage for stage in getattr(model, "feature_info", ()) if "module" in stage]
    if not stages:
        raise LabError(f"{type(model).__name__} has no `blocks`, no `stages` and no `feature_info` "
                       f"to take features from; {GIVE_VIT}")
    return [model.get_submodule(stage["module"]) for stage in stages]


@contextmanager
def both_heads(model: nn.Module) -> Iterator[None]:
    """Let a model with a distillation token, in train mode, return both heads' logits meanwhile."""
    switch = getattr(model, "set_distilled_training", lambda enable: None)
    before = [part.distilled_training for part in (model, getattr(model, "head", None))
              if hasattr(part, "distilled_training")]
    try:
        if before:
            switch(True)
        yield
    finally:
        if before:
            switch(before[0])


def feature_maps(model: nn.Module, stages: int | Sequence[int] | None = None) -> nn.Module:
    """timm's wrapper around a model; its forward returns the maps of `stages`, by default all."""
    from timm.models._features import FeatureGetterNet

    return FeatureGetterNet(model, range(len(model.feature_info)) if stages is None else stages)
