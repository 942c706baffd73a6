"""Coarse to fine: look at the picture in few large patches, and again, where it matters, in small
ones.

The idea of CF-ViT (Chen et al., arXiv 2203.03821), on one set of weights. The picture at half its
size makes a quarter of the tokens, and pictures whose answer is sure enough leave the batch with
it. Of the others, the regions that the class token attends to most come back as four small patches
each, and the rest stay large. As published, that attention is a running mean over the blocks. Left
out: what the first pass found is not handed on to the second, which would be a part that has to be
trained, so that the whole also works off the shelf.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import LabError, plain_numbers, require_grid, require_images, require_range
from ...models.timm_parts import (PlainBlock, ScoredAttention, embed_patches, gather_tokens, grid,
                                  plain_blocks, reads_class_token_alone, takes_any_size,
                                  token_counts)
from ...models.transforming import Plan, transform, transformed
from .choosing import Choose, kept_count

MOMENTUM = 0.99      # of the running mean of class attention, as published


class WatchedBlock(PlainBlock):
    """A plain block that also returns its class attention: tokens (batch, n, dim) -> tokens,
    (batch, n).
    """

    def __init__(self, block: nn.Module):
        super().__init__(block, ScoredAttention(block.attn), 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mixed, row = self.attn(self.norm1(tokens))
        return self.add_mlp(self.add_attention(tokens, mixed)), row


class CoarseToFine(nn.Module):
    """Images -> logits (batch, classes), by a second look at those pictures that a first left
    unsure.

    In train mode every picture is looked at twice, and logits are those of the second look; `looks`
    returns both. On a GPU the second look waits for the device to say which pictures are unsure.
    """

    def __init__(self, model: nn.Module, threshold: float, keep_ratio: float):
        super().__init__()
        self.threshold, self.keep_ratio, self.choose = threshold, keep_ratio, Choose()
        self.grid, self.image_size = grid("coarse_to_fine", model), _image_size(model)
        self.patch_embed, self.cls_token, self.pos_embed = model.patch_embed, model.cls_token, model.pos_embed
        self.blocks = nn.ModuleList(WatchedBlock(block) for block in model.blocks)
        self.norm, self.head = model.norm, model.head

    def no_weight_decay(self) -> set[str]:
        """The learned tables, which no optimizer shall treat as matrices."""
        return {"cls_token", "pos_embed"}

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.looks(images)[1]
        logits, regions = self.first_look(images)
        unsure = logits.float().softmax(dim=-1).amax(dim=-1) < self.threshold
        if unsure.any():
            logits[unsure] = self.second_look(images[unsure], regions[unsure]).to(logits)
        return logits

    def looks(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both looks at every picture, each (batch, classes): what to train on, and to
        calibrate with.
        """
        logits, regions = self.first_look(images)
        return logits, self.second_look(images, regions)

    def first_look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits from the picture at half its size, and how much each of its regions matters,
        (batch, regions).
        """
        require_images("coarse_to_fine", images, size=self.image_size)
        tokens, seen = torch.cat([self._front(images), self.coarse_tokens(images)], dim=1), None
        for block in self.blocks:
            tokens, row = block(tokens)
            seen = row if seen is None else MOMENTUM * seen + (1 - MOMENTUM) * row
        return self.head(self.norm(tokens)[:, 0]), seen[:, 1:]

    def second_look(self, images: Tensor, regions: Tensor) -> Tensor:
        """Logits with the share `keep_ratio` of the regions, those that matter most, in small
        patches.
        """
        count = kept_count(self.keep_ratio, regions.shape[1])
        order = self.choose(regions, regions.shape[1])
        small = gather_tokens(self.fine_tokens(images), order[:, :count])
        small = small.reshape(images.shape[0], 4 * count, -1)
        large = gather_tokens(self.coarse_tokens(images), order[:, count:])
        tokens = torch.cat([self._front(images), small, large], dim=1)
        for block in self.blocks:
            tokens, _ = block(tokens)
        return self.head(self.norm(tokens)[:, 0])

    def coarse_tokens(self, images: Tensor) -> Tensor:
        """(batch, regions, dim): patches of the picture at half its size, at the mean place of the
        four they cover.
        """
        half = F.avg_pool2d(images, 2)
        return self._patches(half) + by_region(self.pos_embed[:, 1:], self.grid).mean(dim=2)

    def fine_tokens(self, images: Tensor) -> Tensor:
        """(batch, regions, 4 dim): of each region the four small patches, side by side."""
        return by_region(self._patches(images) + self.pos_embed[:, 1:], self.grid).flatten(2)

    def _patches(self, images: Tensor) -> Tensor:
        return embed_patches(self.patch_embed, images)

    def _front(self, images: Tensor) -> Tensor:
        return (self.cls_token + self.pos_embed[:, :1]).expand(images.shape[0], -1, -1)


def by_region(tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Tokens of a grid, row by row, (batch, n, dim) -> (batch, n / 4, 4, dim): two by two of them a
    region.

    `grid` is (rows, columns), both even, None for a square.
    """
    rows, columns = require_grid("by_region", tokens.shape[1], 0, grid)
    return tokens.unflatten(1, (rows // 2, 2, columns // 2, 2)).transpose(2, 3).flatten(1, 2).flatten(2, 3)


@plain_numbers
def coarse_to_fine(model: nn.Module, threshold: float, keep_ratio: float = 0.5) -> CoarseToFine:
    """`model` (the lab's ViT, timm's ViT or DeiT), copied, looking first at a picture of half the
    size.

    Pictures whose largest probability is at least `threshold`, in [0, 1], are answered at once; of
    the others the share `keep_ratio`, in (0, 1], of the regions is looked at in small patches. A
    threshold of 1, which nothing reaches, gives every picture both looks; 0 gives none a second.
    Choose it on pictures held out, by what `looks` says of them. Raises LabError on other numbers,
    on models without class token or whose head reads more than it, on models for pictures of any
    size, and on an odd number of rows or columns of patches.
    """
    plan = {"transform": "coarse_to_fine", "threshold": threshold, "keep_ratio": keep_ratio}
    return transformed(model, plan, apply_coarse_to_fine)


@transform("coarse_to_fine")
def apply_coarse_to_fine(model: nn.Module, plan: Plan) -> CoarseToFine:
    """The model that the plan of `coarse_to_fine` makes of `model`'s parts."""
    caller, threshold, keep_ratio = "coarse_to_fine", plan.get("threshold"), plan.get("keep_ratio")
    require_range(caller, "threshold", threshold, 0, 1)
    if type(keep_ratio) not in (int, float) or not 0 < keep_ratio <= 1:
        raise LabError(f"{caller}: keep_ratio={keep_ratio!r}; give the share of regions to look at twice, "
                       "0 < keep_ratio <= 1")
    count, _ = token_counts(caller, model)
    plain_blocks(caller, model)
    _require_head(caller, model)
    _require_one_size(caller, model)
    rows, columns = grid(caller, model)
    table: Any = getattr(model, "pos_embed", None)
    if rows % 2 or columns % 2 or table is None or table.shape[1] != count:
        raise LabError(f"{caller}: {rows} x {columns} patches cannot be taken two by two; give a model with an even "
                       "number of rows and of columns of patches and a place for each token, for example one for "
                       "pictures of 224 px in patches of 16")
    return CoarseToFine(model, threshold, keep_ratio)


def _image_size(model: nn.Module) -> Any:
    """Height and width of the pictures that a model was made for."""
    # timm's; the lab's
    return getattr(model.patch_embed, "img_size", None) or getattr(model, "image_size", None)


def _require_one_size(caller: str, model: nn.Module) -> None:
    if takes_any_size(model):
        raise LabError(f"{caller}: this {type(model).__name__} takes pictures of any size, and its regions are those of "
                       "one size; give a model made without dynamic_img_size and dynamic_img_pad")


def _require_head(caller: str, model: nn.Module) -> None:
    if not reads_class_token_alone(model):
        raise LabError(f"{caller}: it needs one class token, which the head reads alone; give the lab's ViT, or "
                       "timm's ViT or DeiT without distillation token, for example models.create_model('lab_vit')")
