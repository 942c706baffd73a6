"""Checks of the exercises in `chapters/foundations/vision_transformer`."""

from __future__ import annotations

import torch
from torch import Tensor

from ...experiments.faults import PATIENTS
from ..engine import Exercise, Mistake


def _patchify(images: Tensor, patch_size: int) -> Tensor:
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch_size**2)


def _patchify_no_permute(images: Tensor, patch_size: int) -> Tensor:
    return images.reshape(len(images), -1, images.shape[1] * patch_size**2)


def _patchify_columns_first(images: Tensor, patch_size: int) -> Tensor:
    return _patchify(images.transpose(2, 3), patch_size).unflatten(-1, (images.shape[1], patch_size, patch_size)
                                                                   ).transpose(-1, -2).flatten(2)


def _patchify_channels_last(images: Tensor, patch_size: int) -> Tensor:
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // patch_size, patch_size, width // patch_size, patch_size)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, channels * patch_size**2)


def _picture_cases(generator: torch.Generator) -> list[tuple]:
    return [(torch.rand(2, 3, 8, 12, generator=generator), 4), (torch.rand(1, 1, 6, 6, generator=generator), 2)]


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1) @ value


def _attention_wrong_axis(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-2) @ value


def _attention_over_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=1) @ value


def _attention_no_scale(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value


def _attention_scale_no_root(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-1]).softmax(dim=-1) @ value


def _attention_scale_tokens(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-2] ** 0.5).softmax(dim=-1) @ value


def _head_cases(generator: torch.Generator) -> list[tuple]:
    def draw(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator)

    return [tuple(draw(2, 3, 5, 8) for _ in range(3)), (draw(1, 2, 4, 16), draw(1, 2, 7, 16), draw(1, 2, 7, 16))]


def _block_macs(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    projections = 2 * num_tokens * dim**2 + 2 * num_keys * dim**2
    return projections + 2 * num_tokens * num_keys * dim + 2 * mlp_ratio * num_tokens * dim**2


def _block_macs_one_product(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    return _block_macs(num_tokens, dim, mlp_ratio, num_keys) - num_tokens * num_keys * dim


def _block_macs_flops(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    return 2 * _block_macs(num_tokens, dim, mlp_ratio, num_keys)


def _block_macs_all_keys(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    return _block_macs(num_tokens, dim, mlp_ratio, num_tokens)


def _block_macs_all_projected(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    return _block_macs(num_tokens, dim, mlp_ratio, num_keys) + 2 * (num_tokens - num_keys) * dim**2


def _block_macs_no_output(num_tokens: int, dim: int, mlp_ratio: int, num_keys: int) -> int:
    return _block_macs(num_tokens, dim, mlp_ratio, num_keys) - num_tokens * dim**2


def _block_cases(generator: torch.Generator) -> list[tuple]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    return [(draw(60, 300), 8 * draw(6, 30), draw(2, 5), draw(10, 50)) for _ in range(3)]


def _swapped(first: str, second: str) -> dict[str, str]:
    return PATIENTS | {first: PATIENTS[second], second: PATIENTS[first]}


EXERCISES = (
    Exercise(
        id="vision_transformer.count", prompt="Tokens of ViT-Base with 16-pixel patches at 384 px", solution=577,
        cases=None, points=1, minutes=2, mistakes=(
            Mistake("no class token", 576, "Almost: these are the image tokens. One more token travels with them.",
                    "Add the class token."),
            Mistake("one side", 24, "This is the number of patches along one side. How many rows of them are there?",
                    "A picture has two sides: square it, then think of the token that is no patch."),
            Mistake("side and class token", 25, "You added the class token to the patches of one side only.",
                    "Square the patches per side first, then add one."),
            Mistake("pixels", 147457, "You counted pixels. How many pixels does one patch cover?",
                    "A patch covers 16 x 16 pixels: divide by that before you add the class token."),
        )),
    Exercise(
        id="vision_transformer.patchify", prompt="Cut images into flattened patches without a loop",
        solution=_patchify, cases=_picture_cases, points=3, minutes=12, mistakes=(
            Mistake("no permute", _patchify_no_permute,
                    "The shape is right, the content is not: your patches are strips of consecutive memory. reshape "
                    "alone never moves a number.",
                    "Split height and width into (rows, patch_size) and (columns, patch_size), then permute so that "
                    "rows and columns come before channel and pixels, then reshape."),
            Mistake("columns first", _patchify_columns_first,
                    "Each patch is right, their order is not: you walk down the columns, we read along the rows.",
                    "In the permute, the index of the row of patches must come before the index of the column."),
            Mistake("channels last", _patchify_channels_last,
                    "Each patch holds the right numbers in another order: you put the channel last, a convolution's "
                    "weight has it first.",
                    "Within a patch the order is (channel, y, x): the permute ends with channels, patch rows, patch columns."),
        )),
    Exercise(
        id="vision_transformer.attention", prompt="Scaled dot-product attention for all heads at once",
        solution=_attention, cases=_head_cases, points=3, minutes=10, tolerance=1e-4, mistakes=(
            Mistake("wrong softmax axis", _attention_wrong_axis,
                    "Look at the sums of your weights: the columns sum to 1, the rows do not. Who shares out attention, "
                    "the token that looks or the token that is looked at?",
                    "The softmax runs over the keys, the last axis."),
            Mistake("softmax over heads", _attention_over_heads,
                    "Your softmax makes the heads compete with each other. Heads are independent.",
                    "The softmax runs over the keys, the last axis; axis 1 is the heads."),
            Mistake("no scale", _attention_no_scale,
                    "Your weights are too peaked. What happens to a dot product when vectors get longer?",
                    "Divide the dot products by the square root of the width of a head, query.shape[-1]."),
            Mistake("scale without root", _attention_scale_no_root,
                    "Your weights are too flat: you divide by too much.",
                    "The standard deviation of a dot product grows with the square root of the width: take the root."),
            Mistake("scale by tokens", _attention_scale_tokens,
                    "You scale by the number of tokens. The dot product sums over something else.",
                    "A dot product sums over the width of a head: divide by the root of query.shape[-1], not of shape[-2]."),
        )),
    Exercise(
        id="vision_transformer.block_macs", prompt="MACs of a block whose keys and values are fewer than its queries",
        solution=_block_macs, cases=_block_cases, points=3, minutes=12, mistakes=(
            Mistake("one attention product", _block_macs_one_product,
                    "You have the product of queries and keys. There is a second product of that size.",
                    "The weights (tokens x keys) are multiplied with the values (keys x dim): count that as well."),
            Mistake("flops", _block_macs_flops,
                    "Exactly twice too much: you counted operations, the question is about multiply-accumulates.",
                    "One multiply and one add are one MAC: leave the factor 2 out."),
            Mistake("as many keys as tokens", _block_macs_all_keys,
                    "Your cost does not depend on num_keys. That is the ordinary block.",
                    "Keys and values are made from num_keys tokens, and each query meets num_keys keys."),
            Mistake("keys made from all tokens", _block_macs_all_projected,
                    "Attention is right, its projections are not: whose tokens go through the key and value projections?",
                    "Two of the four projections run on num_keys tokens, the other two (query, output) on num_tokens."),
            Mistake("no output projection", _block_macs_no_output,
                    "One linear layer is missing: what does the block do with the heads once they are put side by side?",
                    "Attention ends with an output projection, num_tokens * dim ** 2."),
        )),
    Exercise(
        id="vision_transformer.budget", prompt="Largest picture whose quadratic part stays under a fifth of a block",
        solution=528, cases=None, points=2, minutes=8, mistakes=(
            Mistake("rounded up", 544, "At this size the quadratic part is just over a fifth: a budget is a limit.",
                    "Round the patches per side down, not to the nearest."),
            Mistake("half the quadratic part", 752, "You counted one of attention's two products.",
                    "The quadratic part is 2 N^2 d: the share is N / (6 d + N)."),
            Mistake("one long row", 18416, "This is the side of a picture that is one patch high.",
                    "Tokens fill a square: take the square root before you multiply by the patch size."),
            Mistake("share of the rest", 480, "You asked for a fifth of the linear part. The question is a fifth of the whole block.",
                    "Solve N / (6 d + N) = 1/5, the whole block stands below the fraction line."),
        )),
    Exercise(
        id="vision_transformer.diagnose", prompt="Which fault does each patient have?", solution=dict(PATIENTS),
        cases=None, points=3, minutes=10, mistakes=(
            Mistake("A and B swapped", _swapped("A", "B"), "C is right. A and B are swapped: only one of them has rows that do not sum to 1.",
                    "A softmax over the wrong axis shows in the row sums; a missing scale in large logits and low entropy."),
            Mistake("A and C swapped", _swapped("A", "C"), "B is right. A and C are swapped: which of them does not care where a patch lies?",
                    "Without positions, shuffling the patches changes nothing at all: compare the two accuracies."),
            Mistake("B and C swapped", _swapped("B", "C"), "A is right. B and C are swapped: compare accuracy with accuracy after shuffling.",
                    "Without positions the two accuracies are equal to the last digit; a missing scale shows in the logits."),
        )),
)
