"""How a model's tokens lie on the picture, and which of them its head reads; nothing is guessed.

The lab's models have `num_prefix_tokens` and a method `grids(height, width)` for that, and so can
any other. Of timm's models the patch embedding knows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from ...errors import LabError, both_sides
from ...runtime.wrapped import unwrapped
from ..lightvit import LightViT
from .attention import GIVE_VIT

FRONT = ("cls_token", "dist_token", "reg_token")      # tables (1, n, dim) of the tokens in front


def token_maker(model: nn.Module) -> nn.Module:
    """The part of `model` that makes tokens of pictures: itself, or what it is built around."""
    model = unwrapped(model)
    return next((part for part in model.modules() if _grids_of(part) is not None), model)


class Layout(NamedTuple):
    """`prefix` tokens in front that stand for no patch, then `rows` x `columns` of patches."""

    prefix: int
    rows: int
    columns: int


def layout(model: nn.Module, inputs: Tensor, num_tokens: int) -> Layout:
    """The layout of the `num_tokens` tokens that `model` makes of `inputs` (B, C, height, width).

    Raises LabError if it makes another number of such a picture, or does not say how they lie.
    """
    prefix, known = num_prefix_tokens(model), grids(model, inputs)
    for rows, columns in known:
        if rows * columns == num_tokens - prefix:
            return Layout(prefix, rows, columns)
    made = " or ".join(f"{rows} x {columns}" for rows, columns in known)
    height, width = inputs.shape[-2:]
    kind = type(token_maker(model)).__name__
    raise LabError(f"{num_tokens - prefix} image tokens, where {kind} makes {made} of a picture of "
                   f"{height} x {width} pixels; if tokens were dropped or merged, read the maps of "
                   "a model that keeps them all")


def grids(model: nn.Module, inputs: Tensor) -> list[tuple[int, int]]:
    """The grids, (rows, columns), that image tokens form, stage by stage, on `inputs` (B, C, H, W).

    Raises LabError if the model does not say how its tokens lie.
    """
    maker = token_maker(model)
    if (made := _grids_of(maker)) is None:
        raise LabError(f"{type(maker).__name__} does not say how its tokens lie on a picture; "
                       f"{GIVE_VIT}, or one that says so by a method grids(height, width)")
    return [(int(rows), int(columns)) for rows, columns in made(*inputs.shape[-2:])]


def _grids_of(part: nn.Module) -> Callable[[int, int], Any] | None:
    """A function (height, width) -> grids: `part`'s own, or its patch embedding's; or None."""
    if callable(own := getattr(part, "grids", None)):
        return own
    embedding = getattr(part, "patch_embed", None)
    if hasattr(embedding, "dynamic_feat_size"):
        return lambda height, width: [embedding.dynamic_feat_size((height, width))]
    if hasattr(embedding, "grid_size"):
        return lambda height, width: [embedding.grid_size]
    return None


def grid(caller: str, model: nn.Module) -> tuple[int, int]:
    """(rows, columns) of the image tokens, for pictures of the size the model was built for.

    Raises LabError, in the name of `caller`, for models that do not say so.
    """
    maker = token_maker(model)
    size = getattr(getattr(maker, "patch_embed", None), "grid_size", None)      # timm's
    if size is None and callable(getattr(maker, "grids", None)) and hasattr(maker, "image_size"):
        size = maker.grids(*both_sides(maker.image_size))[0]
    if size is None:
        raise LabError(f"{caller}: {type(model).__name__} does not say how many tokens it makes "
                       f"of a picture; {GIVE_VIT}")
    return int(size[0]), int(size[1])


def token_counts(caller: str, model: nn.Module) -> tuple[int, int]:
    """How many tokens enter the blocks of a ViT, and how many in front of them stand for no patch.

    Raises LabError, in the name of `caller`, for models that do not say so.
    """
    rows, columns = grid(caller, model)
    prefix = num_prefix_tokens(model)
    return prefix + rows * columns, prefix


def num_prefix_tokens(model: nn.Module) -> int:
    """How many tokens stand for no patch: class, distillation, register, LightViT's global tokens.

    Of a model without an attribute of that name, its tables of such tokens are counted.
    """
    maker = token_maker(model)
    if isinstance(own := getattr(maker, "num_prefix_tokens", None), int):
        return own
    tables = [getattr(maker, name, None) for name in FRONT]
    return sum(table.shape[1] for table in tables if table is not None)


def head_tokens(model: nn.Module) -> slice:
    """Which of the last tokens the head reads: class and distillation token, or those of its mean.

    Where the head takes a maximum, or attends to the tokens, these are all that it chooses from.
    """
    maker = token_maker(model)
    if reads_class_token(maker):
        return slice(0, 1 if getattr(maker, "head_dist", None) is None else 2)
    reads_all = isinstance(maker, LightViT) or getattr(maker, "pool_include_prefix", False)
    return slice(0 if reads_all else num_prefix_tokens(maker), None)


def in_reading_order(model: nn.Module, layer: nn.Module) -> bool:
    """Whether tokens of `layer` stand row by row; in LightViT's stages they stand by windows."""
    maker = token_maker(model)
    return not isinstance(maker, LightViT) or layer not in {*maker.stages.modules()}


def read_by_head(model: nn.Module, token_map: Tensor) -> Tensor:
    """The mean of those rows of `token_map` (B, N, ...) whose tokens the head reads: (B, ...)."""
    return token_map[:, head_tokens(model)].mean(dim=1)


def reads_class_token(model: nn.Module) -> bool:
    """Whether the head reads the class token, alone or with a distillation token, and no other."""
    maker = token_maker(model)
    return getattr(maker, "global_pool", "token" if has_class_token(maker) else "") == "token"


def has_class_token(model: nn.Module) -> bool:
    """Whether the first token is a class token."""
    return getattr(token_maker(model), "cls_token", None) is not None


def reads_class_token_alone(model: nn.Module) -> bool:
    """Whether one class token is all that stands in front, and all that the head reads.

    Nor may anything normalise tokens before the first block.
    """
    maker = token_maker(model)
    return (has_class_token(maker) and num_prefix_tokens(maker) == 1 and reads_class_token(maker)
            and isinstance(getattr(maker, "norm_pre", None), nn.Identity | None))


def takes_any_size(model: nn.Module) -> bool:
    """Whether `model` was made to take pictures of other sizes than its own too."""
    embedding = getattr(model, "patch_embed", None)
    padded = getattr(embedding, "dynamic_img_pad", False)
    return (padded or getattr(model, "dynamic_img_size", False)
            or not getattr(embedding, "strict_img_size", True))


def head_names(name: str) -> tuple[str, ...]:
    """What the last layers of a model of this name are called: timm knows its own; else `head`."""
    with suppress(Exception):           # a wrong name, which create_model refuses in words
        heads = get_pretrained_cfg(name).classifier or "head"
        return (heads,) if isinstance(heads, str) else tuple(heads)
    return ("head",)
