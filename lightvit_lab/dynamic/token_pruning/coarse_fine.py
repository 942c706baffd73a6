"""Coarse to fine: large patches for every picture, small ones where it matters and only if needed.

CF-ViT (Chen et al., arXiv 2203.03821), on one set of weights. The picture at half its size makes a
quarter of the tokens, and pictures whose answer is sure enough leave the batch with it. Of the
others, the regions that the class token attends to most come back as four small patches each, and
the rest stay large. As in the authors' code, that attention is a running mean over the blocks that
starts at zero and leaves out the first quarter of them, and the coarse look learns from the fine
one (`CoarseToFineObjective`). `reuse` is the part that hands tokens of the coarse look on to the
fine one. It has to be trained, so it starts as nothing: the method also works off the shelf. Other
than in the authors' code, large patches stand at the mean place of four small ones, not at places
of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components import Mlp
from ...errors import (LabError, plain_numbers, require_choice, require_grid, require_images,
                       require_range)
from ...models.timm_parts import (PlainBlock, ScoredAttention, embed_patches, gather_tokens, grid,
                                  plain_blocks, reads_class_token_alone, takes_any_size)
from ...models.transforming import Plan, transform, transformed
from ...runtime.wrapped import unwrapped
from ...training import Batch, label_loss
from .choosing import Choose, kept_count, require_share

MOMENTUM = 0.99      # of the running mean of class attention, as in the authors' code
SKIPPED = 4          # it leaves out one block of so many, the first ones: theirs 3 of 12
CALLER = "coarse_to_fine"


class ScoredBlock(PlainBlock):
    """A plain block that also returns its class attention, (batch, n)."""

    def __init__(self, block: nn.Module):
        super().__init__(block, ScoredAttention(block.attn), 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mixed, row = self.attn(self.norm1(tokens))
        return self.add_mlp(self.add_attention(tokens, mixed)), row


class Reuse(nn.Sequential):
    """What tokens of the coarse look (batch, regions, dim) add to small patches; 0 at first."""

    def __init__(self, dim: int):
        super().__init__(nn.LayerNorm(dim, eps=1e-6), Mlp(dim, 4 * dim))
        nn.init.zeros_(self[1].fc2.weight)
        nn.init.zeros_(self[1].fc2.bias)


class CoarseToFine(nn.Module):
    """Images -> logits (batch, classes); the fine stage runs for pictures that are still unsure.

    In train mode every picture goes through both stages, and logits are those of the fine one;
    `both_stages` returns both. On a GPU the fine stage waits for the device to say which pictures
    are unsure.
    """

    def __init__(self, model: nn.Module, threshold: float, keep_ratio: float, reuse: bool = False):
        super().__init__()
        self.threshold, self.keep_ratio, self.choose = threshold, keep_ratio, Choose()
        self.grid = grid(CALLER, model)
        size = getattr(model.patch_embed, "img_size", None)          # timm's
        self.image_size = size or getattr(model, "image_size", None)
        self.patch_embed, self.cls_token = model.patch_embed, model.cls_token
        self.pos_embed = model.pos_embed
        self.blocks = nn.ModuleList(ScoredBlock(block) for block in model.blocks)
        self.norm, self.head = model.norm, model.head
        self.reuse = Reuse(self.pos_embed.shape[-1]).to(self.pos_embed) if reuse else None

    def no_weight_decay(self) -> set[str]:
        """The learned tables, which no optimizer shall treat as matrices."""
        return {"cls_token", "pos_embed"}

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.both_stages(images)[1]
        logits, regions, seen = self.coarse_stage(images)
        unsure = logits.float().softmax(dim=-1).amax(dim=-1) < self.threshold
        if unsure.any():
            fine = self.fine_stage(images[unsure], regions[unsure], seen[unsure])
            logits[unsure] = fine.to(logits)
        return logits

    def both_stages(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both stages for every picture, (batch, classes): to train and calibrate."""
        logits, regions, seen = self.coarse_stage(images)
        return logits, self.fine_stage(images, regions, seen)

    def coarse_stage(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits from the picture at half its size; each region's score, and its last token.

        Scores are (batch, regions), tokens (batch, regions, dim), behind the last norm.
        """
        require_images(CALLER, images, size=self.image_size)
        logits, tokens, rows = self._run(self.coarse_tokens(images))
        scores = torch.zeros_like(rows[0])
        for row in rows[len(rows) // SKIPPED:]:
            scores = MOMENTUM * scores + (1 - MOMENTUM) * row
        return logits, scores[:, 1:], tokens[:, 1:]

    def fine_stage(self, images: Tensor, regions: Tensor, seen: Tensor) -> Tensor:
        """Logits with the share `keep_ratio` of the regions, of highest score, in small patches.

        `regions` and `seen` are the scores and tokens of `coarse_stage`.
        """
        count = kept_count(self.keep_ratio, regions.shape[1])
        order = self.choose(regions, regions.shape[1])
        small = gather_tokens(self.fine_tokens(images, seen), order[:, :count])
        small = small.reshape(images.shape[0], 4 * count, -1)
        large = gather_tokens(self.coarse_tokens(images), order[:, count:])
        return self._run(torch.cat([small, large], dim=1))[0]

    def coarse_tokens(self, images: Tensor) -> Tensor:
        """(batch, regions, dim): patches at half the size, at the mean place of four small ones."""
        places = by_region(self.pos_embed[:, 1:], self.grid).mean(dim=2)
        return embed_patches(self.patch_embed, F.avg_pool2d(images, 2)) + places

    def fine_tokens(self, images: Tensor, seen: Tensor) -> Tensor:
        """(batch, regions, 4 dim): of each region the four small patches, one after the other."""
        tokens = embed_patches(self.patch_embed, images) + self.pos_embed[:, 1:]
        tokens = by_region(tokens, self.grid)
        return (tokens if self.reuse is None else tokens + self.reuse(seen)[:, :, None]).flatten(2)

    def _run(self, tokens: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Of patches (batch, n, dim): logits, normed tokens, each block's class attention."""
        front = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens, rows = torch.cat([front, tokens], dim=1), []
        for block in self.blocks:
            tokens, row = block(tokens)
            rows.append(row)
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0]), tokens, rows


@plain_numbers
@dataclass
class CoarseToFineObjective:
    """The loss of CF-ViT, an objective of `training.fit`: labels teach the fine look alone.

    The coarse one learns from it: the KL divergence of its logits from the fine ones, which have no
    gradient there.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        coarse, fine = unwrapped(model).both_stages(batch.inputs)
        ours, theirs = (one.float().log_softmax(-1) for one in (coarse, fine.detach()))
        terms = {"labels": label_loss(fine, batch),
                 "coarse": F.kl_div(ours, theirs, reduction="batchmean", log_target=True)}
        return sum(terms.values()), fine, terms


def by_region(tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Tokens (batch, n, dim), row by row -> (batch, n / 4, 4, dim): regions of two by two.

    `grid` is (rows, columns), both even, None for a square.
    """
    rows, columns = require_grid("by_region", tokens.shape[1], 0, grid)
    halves = tokens.unflatten(1, (rows // 2, 2, columns // 2, 2)).transpose(2, 3)
    return halves.flatten(1, 2).flatten(2, 3)


@plain_numbers
def coarse_to_fine(model: nn.Module, threshold: float, keep_ratio: float = 0.5,
                   reuse: bool = False) -> CoarseToFine:
    """A copy of `model` (the lab's ViT, timm's ViT or DeiT) that begins at half the picture's size.

    Pictures whose largest probability is at least `threshold`, in [0, 1], are answered at once; of
    the others the share `keep_ratio`, in (0, 1], of the regions comes back in small patches. A
    threshold of 1, which nothing reaches, gives every picture both stages; 0 gives none the fine
    one. Choose it on validation pictures, by what `both_stages` gives for them. With `reuse` a norm
    and an MLP of the coarse look's tokens add to the small patches once they are trained, by
    `training.fit(model, data, objective=CoarseToFineObjective())`. Raises LabError on other
    numbers, on models without class token or whose head reads more than it, on models for pictures
    of any size, and on an odd number of rows or columns of patches.
    """
    plan = {"transform": "coarse_to_fine", "threshold": threshold, "keep_ratio": keep_ratio,
            "reuse": reuse}
    return transformed(model, plan, apply_coarse_to_fine)


@transform("coarse_to_fine")
def apply_coarse_to_fine(model: nn.Module, plan: Plan) -> CoarseToFine:
    """The model that the plan of `coarse_to_fine` makes of `model`'s parts."""
    threshold = require_range(CALLER, "threshold", plan.get("threshold"), 0, 1)
    keep_ratio = require_share(CALLER, plan.get("keep_ratio"))
    reuse = plan.get("reuse", False)           # absent from older files
    require_choice(CALLER, "reuse", reuse, (True, False))
    plain_blocks(CALLER, model)
    if not reads_class_token_alone(model):
        raise LabError(f"{CALLER}: it needs one class token, which the head reads alone; give the "
                       "lab's ViT, or timm's ViT or DeiT without distillation token, for example "
                       "models.create_model('lab_vit')")
    if takes_any_size(model):
        raise LabError(f"{CALLER}: this {type(model).__name__} takes pictures of any size; give a "
                       "model made without dynamic_img_size and dynamic_img_pad")
    rows, columns = grid(CALLER, model)
    table = getattr(model, "pos_embed", None)
    if rows % 2 or columns % 2 or table is None or table.shape[1] != 1 + rows * columns:
        raise LabError(f"{CALLER}: {rows} x {columns} patches cannot be taken two by two; give a "
                       "model with an even number of rows and of columns of patches and a place "
                       "for each token, for example one for 224 px in patches of 16")
    return CoarseToFine(model, threshold, keep_ratio, reuse)
