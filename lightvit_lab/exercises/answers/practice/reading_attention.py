"""Known wrong answers to the exercises of `chapters/practice/reading_attention`."""

from __future__ import annotations

from collections.abc import Sequence
import torch
import torch.nn.functional as F
from torch import Tensor
from .. import Mistake


def _rollout(maps: Sequence[Tensor]) -> Tensor:
    flow = identity = torch.eye(maps[0].shape[-1])
    for block in maps:
        mixed = block.mean(dim=0) + identity
        flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    return flow


def _rollout_not_normalised(maps: Sequence[Tensor]) -> Tensor:
    flow = identity = torch.eye(maps[0].shape[-1])
    for block in maps:
        flow = (block.mean(dim=0) + identity) @ flow
    return flow


def _rollout_halved(maps: Sequence[Tensor]) -> Tensor:
    flow = identity = torch.eye(maps[0].shape[-1])
    for block in maps:
        flow = (block.mean(dim=0) + identity) / 2 @ flow
    return flow


def _rollout_no_keepdim(maps: Sequence[Tensor]) -> Tensor:
    flow = identity = torch.eye(maps[0].shape[-1])
    for block in maps:
        mixed = block.mean(dim=0) + identity
        flow = mixed / mixed.sum(dim=-1) @ flow
    return flow


def _rollout_no_identity(maps: Sequence[Tensor]) -> Tensor:
    flow = torch.eye(maps[0].shape[-1])
    for block in maps:
        mixed = block.mean(dim=0)
        flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    return flow


def _rollout_backwards(maps: Sequence[Tensor]) -> Tensor:
    return _rollout(list(maps)[::-1])


def _rollout_columns(maps: Sequence[Tensor]) -> Tensor:
    flow = identity = torch.eye(maps[0].shape[-1])
    for block in maps:
        mixed = block.mean(dim=0) + identity
        flow = mixed / mixed.sum(dim=0, keepdim=True) @ flow
    return flow


def _patch_shares(flow: Tensor) -> Tensor:
    side = int((len(flow) - 1) ** 0.5)
    row = flow[0, 1:]
    return (row / row.sum()).view(side, side)


def _shares_class_token_kept(flow: Tensor) -> Tensor:
    side = int((len(flow) - 1) ** 0.5)
    row = flow[0, : side * side]
    return (row / row.sum()).view(side, side)


def _shares_of_the_whole(flow: Tensor) -> Tensor:
    side = int((len(flow) - 1) ** 0.5)
    return flow[0, 1:].view(side, side)


def _shares_column(flow: Tensor) -> Tensor:
    return _patch_shares(flow.T)


def _shares_of_all(flow: Tensor) -> Tensor:
    return _patch_shares(flow.mean(dim=0, keepdim=True).expand(len(flow), -1))


def _shares_transposed(flow: Tensor) -> Tensor:
    return _patch_shares(flow).T


def _shares_by_maximum(flow: Tensor) -> Tensor:
    side = int((len(flow) - 1) ** 0.5)
    row = flow[0, 1:]
    return (row / row.max()).view(side, side)


def _step_mean_first(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + (weights * gradient).mean(dim=0).clamp(min=0) @ flow


def _step_not_clamped(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + (weights * gradient).mean(dim=0) @ flow


def _step_absolute(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + (weights * gradient).abs().mean(dim=0) @ flow


def _step_no_identity(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return (weights * gradient).clamp(min=0).mean(dim=0) @ flow


def _step_other_side(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + flow @ (weights * gradient).clamp(min=0).mean(dim=0)


def _step_heads_added(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + (weights * gradient).clamp(min=0).sum(dim=0) @ flow


def _step_gradient_alone(weights: Tensor, gradient: Tensor, flow: Tensor) -> Tensor:
    return flow + gradient.clamp(min=0).mean(dim=0) @ flow


def _energy_upsampled(patch_map: Tensor, mask: Tensor) -> Tensor:
    smooth = F.interpolate(patch_map[None, None].clamp(min=0), mask.shape, mode="bilinear")[0, 0]
    return (smooth * mask).sum() / smooth.sum()


def _energy_any_pixel(patch_map: Tensor, mask: Tensor) -> Tensor:
    mass = patch_map.clamp(min=0)
    return (mass * F.adaptive_max_pool2d(mask[None].float(), patch_map.shape)[0]).sum() / mass.sum()


def _energy_most_pixels(patch_map: Tensor, mask: Tensor) -> Tensor:
    mass = patch_map.clamp(min=0)
    return (mass * (F.adaptive_avg_pool2d(mask[None].float(), patch_map.shape)[0] > 0.5)).sum() / mass.sum()


def _energy_negative_too(patch_map: Tensor, mask: Tensor) -> Tensor:
    covered = F.adaptive_avg_pool2d(mask[None].float(), patch_map.shape)[0]
    return (patch_map * covered).sum() / patch_map.sum()


def _energy_of_mask(patch_map: Tensor, mask: Tensor) -> Tensor:
    mass = patch_map.clamp(min=0)
    covered = F.adaptive_avg_pool2d(mask[None].float(), patch_map.shape)[0]
    return (mass * covered).sum() / covered.sum()


def _energy_not_divided(patch_map: Tensor, mask: Tensor) -> Tensor:
    return (patch_map.clamp(min=0) * F.adaptive_avg_pool2d(mask[None].float(), patch_map.shape)[0]).sum()


MISTAKES = {
    "reading_attention.residual": (
        Mistake("residual path alone", "This is what comes down the residual path alone. Uniform attention hands the class token something of itself, too.",
                "Add the attended part: (1 - 1/64) / 65.", answer=100 / 64),
        Mistake("attention alone", "This is uniform attention without the residual path. Half of each token passes every block untouched.",
                "Add 1/64 of the token, that never left it, to (1 - 1/64) / 65.", answer=100 / 65),
        Mistake("path by path", "You followed the token that stays itself in each block. It can also leave and come back.",
                "What has once been mixed uniformly stays uniform: 1/64 + (1 - 1/64) / 65.", answer=100 * (0.5 + 0.5 / 65) ** 6),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", answer=2 / 65),
        Mistake("both in full", "The two paths share one token: 1/64 of it went down the one, so the rest went down the other.",
                "Weigh the second by 1 - 1/64.", answer=100 / 64 + 100 / 65),
    ),
    "reading_attention.rollout": (
        Mistake("rows not normalised", "Rows of your steps do not sum to 1, so the product grows with each block.",
                "After adding the identity, divide each row by its own sum.", answer=_rollout_not_normalised),
        Mistake("halved", "Dividing by 2 is right where each row of attention sums to 1. These have lost entries.",
                "Divide each row by its own sum, mixed.sum(dim=-1, keepdim=True), whatever that is.", answer=_rollout_halved),
        Mistake("keepdim forgotten", "You divide entry (i, j) by the sum of row j: a vector is laid along the last dimension. A well-known script does just that.",
                "Keep the summed dimension: keepdim=True.", answer=_rollout_no_keepdim),
        Mistake("identity left out", "Each block adds to what came in. Where is what came in?",
                "Add torch.eye(N) to the fused attention before you normalise.", answer=_rollout_no_identity),
        Mistake("backwards", "Your product starts at the last block. Rows of the result should belong to the last tokens, columns to the first.",
                "Multiply from the left as you go up: flow = step @ flow.", answer=_rollout_backwards),
        Mistake("columns", "You made the columns sum to 1. Row i says of what token i is made.",
                "Sum over the last dimension, not the first.", answer=_rollout_columns),
    ),
    "reading_attention.patches": (
        Mistake("class token kept", "Your map is shifted by one patch: its first cell is the class token.",
                "Leave out entry 0 before you cut the row into lines: flow[0, 1:].", answer=_shares_class_token_kept),
        Mistake("divided before", "The right cells, but they do not sum to 1: the class token's own entry still has its share.",
                "Drop it first, then divide by the sum of what is left.", answer=_shares_of_the_whole),
        Mistake("column for row", "This is how much of the class token every patch got. We asked the other way round: what is in the class token?",
                "Take row 0, not column 0.", answer=_shares_column),
        Mistake("all rows", "You averaged over all tokens. The classifier reads only one.",
                "Take row 0 alone.", answer=_shares_of_all),
        Mistake("transposed", "Rows and columns are swapped: patches are counted line by line.",
                "view(side, side) without a transpose.", answer=_shares_transposed),
        Mistake("by the maximum", "This is a map with maximum 1. Shares sum to 1.",
                "Divide by row.sum(), not row.max().", answer=_shares_by_maximum),
    ),
    "reading_attention.relevance": (
        Mistake("mean before clamp", "You averaged the heads first, so one head's evidence against the class cancels another's for it.",
                "Clamp each head at 0, then take the mean.", answer=_step_mean_first),
        Mistake("not clamped", "What speaks against the class is still in it.",
                "Keep positive entries only: clamp(min=0).", answer=_step_not_clamped),
        Mistake("absolute values", "You count evidence against the class as evidence for it.",
                "clamp(min=0) instead of abs().", answer=_step_absolute),
        Mistake("identity left out", "A block adds to what came in, and so does its relevance.",
                "flow + ... @ flow.", answer=_step_no_identity),
        Mistake("from the other side", "The product is the wrong way round: the block's rows are later tokens, its columns meet the rows of what was found so far.",
                "(...) @ flow.", answer=_step_other_side),
        Mistake("heads added", "The heads are added. The rule takes their mean.",
                "mean(dim=0).", answer=_step_heads_added),
        Mistake("gradient alone", "This is the gradient alone: what would happen if a token looked there. Did it look?",
                "Multiply the gradient by the attention, entry by entry.", answer=_step_gradient_alone),
    ),
    "reading_attention.energy": (
        Mistake("map upsampled before masking", "You blew the map up smoothly, and that smears weight over the object's border: resolution that the map never had.",
                "Bring the mask down to the patches instead: what share of each patch it covers (adaptive_avg_pool2d).", answer=_energy_upsampled),
        Mistake("any pixel", "You count a patch in full when a single pixel of the object lies in it.",
                "Weigh each patch by the share that the object covers: the mean of the mask, not its maximum.", answer=_energy_any_pixel),
        Mistake("most pixels", "You count a patch in full or not at all. The border cuts through patches.",
                "Weigh each patch by the share that the object covers.", answer=_energy_most_pixels),
        Mistake("negative too", "Negative entries are in your sums. The positive mass was asked for.",
                "clamp(min=0) first, above and below the line.", answer=_energy_negative_too),
        Mistake("of the mask", "You divided by the object's area: that is the mean of the map on the object.",
                "Divide by the whole positive mass of the map.", answer=_energy_of_mask),
        Mistake("not divided", "This is the mass on the object. Which share of all is it?",
                "Divide by the sum of the map's positive part.", answer=_energy_not_divided),
    ),
}
