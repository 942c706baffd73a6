"""Models of pictures of 3 x 5 patches, and two ways of laying a picture out anew that change nothing for a model.

turned: a picture and every filter and place of a model mirrored at the diagonal. relaid: the same patches in the same
order in rows of another length, which a model that sees patches alone cannot tell.
"""

import copy

import torch
from drawn_weights import fill, pictures
from torch import Tensor, nn

from lightvit_lab import models
from lightvit_lab.models.lightvit import LightViTAttention, ResidualMergePatch

SMALL = {"image_size": (12, 20), "dim": 24, "depth": 3, "num_heads": 3}
TIMM = {"img_size": (12, 20), "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 10}
LIGHT = {"embed_dims": (24, 24), "num_layers": (2, 1), "num_heads": (3, 3), "mlp_ratios": (2, 2), "neck_dim": 32}
KINDS = {   # name -> registered name, arguments, picture
    "lab_vit": ("lab_vit", SMALL, (12, 20)),
    "patches": ("lab_vit", {**SMALL, "embedding": "patch"}, (12, 20)),
    "distilled": ("lab_vit", {**SMALL, "embedding": "patch", "distilled": True}, (12, 20)),
    "lab_cct": ("lab_cct", {"image_size": (24, 40), "widths": (12, 24), "stem": 12, "num_heads": 3}, (24, 40)),
    "cct_2_3x2": ("cct_2_3x2", {"image_size": (12, 20), "widths": (12, 24)}, (12, 20)),
    "lab_cnn": ("lab_cnn", {"widths": (12, 24)}, (12, 20)),
    "lab_lightvit": ("lab_lightvit", LIGHT, (12, 20)),
    "timm": ("vit_tiny_patch16_224", TIMM, (12, 20)),
    "timm, any size": ("vit_tiny_patch16_224", {**TIMM, "dynamic_img_size": True}, (12, 20)),
    "timm, registers": ("vit_tiny_patch16_224", {**TIMM, "reg_tokens": 2, "global_pool": "avg"}, (12, 20)),
    "timm, distilled": ("deit_tiny_distilled_patch16_224", TIMM, (12, 20)),
}


def made(kind: str = "patches", **changes) -> nn.Module:
    """A small model of that kind with drawn weights, in eval mode."""
    name, arguments, _ = KINDS[kind]
    return fill(models.create_model(name, **{**arguments, **changes}))


def inputs_of(kind: str = "patches", count: int = 2) -> Tensor:
    return pictures(1, count, 3, *KINDS[kind][2])


def resized(kind: str, size: tuple[int, int]) -> nn.Module:
    """The model of that kind for pictures of another size, with the same weights; tables of places must be as long."""
    model, argument = made(kind), "img_size" if kind.startswith("timm") else "image_size"
    other = models.create_model(KINDS[kind][0], **{**KINDS[kind][1], argument: size})
    other.load_state_dict(model.state_dict())
    return other.eval()


def relaid(images: Tensor, rows: int, columns: int, side: int = 4) -> Tensor:
    """The same patches of `side` pixels, in reading order, as `rows` x `columns` of them."""
    height, width = (length // side for length in images.shape[-2:])
    patches = images.unflatten(2, (height, side)).unflatten(4, (width, side)).permute(0, 1, 2, 4, 3, 5).flatten(2, 3)
    return patches.unflatten(2, (rows, columns)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)


@torch.no_grad()
def turned(kind: str, rows: int = 3, columns: int = 5) -> nn.Module:
    """The model of that kind that sees in a picture `images.mT` what the model of that kind sees in `images`."""
    model = made(kind)
    other = copy.deepcopy(model) if kind in ("lab_cnn", "lab_lightvit") else resized(kind, KINDS[kind][2][::-1])
    for part in other.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.copy_(part.weight.mT.clone())
        if isinstance(part, LightViTAttention):
            side, table = 2 * part.window_size - 1, part.relative_position_bias_table
            table.copy_(table.unflatten(0, (side, side)).transpose(0, 1).flatten(0, 1).clone())
        if isinstance(part, ResidualMergePatch):
            for weight in (part.norm.weight, part.norm.bias, part.reduction.weight):     # the four stand by columns
                weight.copy_(weight.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].flatten(-2))
    if (places := getattr(other, "pos_embed", None)) is not None:
        front = places.shape[1] - rows * columns
        places[:, front:] = places[:, front:].unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2).clone()
    return other
