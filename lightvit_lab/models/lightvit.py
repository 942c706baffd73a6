"""LightViT: attention in windows, and a few global tokens that gather from all windows and hand
back to all tokens.

Huang et al., LightViT: Towards Light-Weight Convolution-Free Vision Transformers, arXiv 2207.05557.
Names and shapes of parameters are those of the authors' code, so the weights they publish load
(`checkpoint.import_official`).

Tokens are (batch, T + N, dim): T global tokens in front, then N = height * width image tokens.
Inside a stage the image tokens stand in window order. Everything but attention in windows treats
tokens alike, so one sort at the start of a stage and one at its end replace cutting and mending the
map in every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..components import (Grid, Mlp, PreNormBlock, Windows, attend, attention_weights, convolution,
                          initialise_linear, join_heads, relative_position_index, sort_into_windows,
                          split_heads, to_map, to_tokens)
from ..errors import (LabError, both_sides, number, plain_numbers, require_choice, require_images,
                      require_multiple, require_range, require_size)
from ..runtime.full_precision import full_precision

FEW_KEYS = 32


@plain_numbers
class LightViTAttention(nn.Module):
    """Local attention in windows, plus what global tokens aggregate from all image tokens and
    broadcast to all of them.

    (B, T + N, dim) in window order -> the same. `fused` chooses torch's fused attention; `weights`
    is for looking.
    """

    def __init__(self, dim: int, num_heads: int, num_tokens: int,
                 window_size: int | tuple[int, int] = 7, fused: bool = True):
        super().__init__()
        self.num_heads, self.num_tokens, self.window_size, self.fused = num_heads, num_tokens, window_size, fused
        rows, columns = both_sides(window_size)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * rows - 1) * (2 * columns - 1), num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window_size))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.kv_global = nn.Linear(dim, 2 * dim) if num_tokens else None
        self.proj = nn.Linear(dim, dim)

    def no_weight_decay(self) -> set[str]:
        """The learned table, which no optimizer shall treat as a matrix."""
        return {"relative_position_bias_table"}

    def look_up_bias(self, area: int) -> Tensor:
        """The position table's entry for each pair of places, (1, heads, area, area)."""
        bias = self.relative_position_bias_table.T.index_select(1, self.relative_position_index)
        return bias.view(1, self.num_heads, area, area)

    def position_bias(self, windows: Windows, batch: int) -> Tensor:
        """What is added to the scores in windows, (1 or B * count, heads, area, area); -inf where a
        key is missing.
        """
        bias = self.look_up_bias(windows.area)
        return (bias + windows.mask(bias)).repeat(batch, 1, 1, 1) if windows.padded else bias

    def attend(self, query: Tensor, key: Tensor, value: Tensor,
               bias: Tensor | None = None) -> Tensor:
        """The values, averaged for each query, heads side by side again: (B, queries, dim).

        For a handful of keys, as in the broadcast, the fused attention of a CPU is the slower one.
        """
        fused = self.fused and (query.is_cuda or key.shape[2] > FEW_KEYS)
        return join_heads(attend(query, key, value, bias, fused=fused))  # (B, queries, D)

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        qkv, count = self.qkv(tokens), self.num_tokens
        bias = self.position_bias(windows, tokens.shape[0])
        local = windows.join(self.attend(*split_heads(windows.cut(qkv[:, count:]), 3, self.num_heads), bias))
        if not count:
            return self.proj(local)
        query, key, value = split_heads(qkv, 3, self.num_heads)
        aggregated = self.attend(query[:, :, :count], key[:, :, count:], value[:, :, count:])
        broadcast = self.attend(query[:, :, count:], *split_heads(self.kv_global(aggregated), 2, self.num_heads))
        return self.proj(torch.cat([aggregated, local + broadcast], dim=1))

    @full_precision
    def weights(self, tokens: Tensor, windows: Windows) -> dict[str, Tensor]:
        """Where tokens look, rows summing to 1: "window" (B, count, heads, area, area), empty
        places getting no weight, "aggregation" (B, heads, T, N) and "broadcast" (B, heads, N, T),
        with the image tokens in reading order.
        """
        qkv, count, batch = self.qkv(tokens), self.num_tokens, tokens.shape[0]
        in_windows = split_heads(windows.cut(qkv[:, count:]), 3, self.num_heads)
        local = attention_weights(*in_windows[:2], self.position_bias(windows, batch))
        if not count:
            return {"window": local.unflatten(0, (batch, windows.count))}
        query, key, value = split_heads(qkv, 3, self.num_heads)
        aggregation = attention_weights(query[:, :, :count], key[:, :, count:])
        aggregated = join_heads(aggregation.to(value) @ value[:, :, count:])
        handed_on, _ = split_heads(self.kv_global(aggregated), 2, self.num_heads)
        broadcast = attention_weights(query[:, :, count:], handed_on)
        reading = windows.inverse[count:] - count
        return {"window": local.unflatten(0, (batch, windows.count)),
                "aggregation": aggregation[..., reading], "broadcast": broadcast[:, :, reading]}


class BiAttn(nn.Module):
    """Multiply tokens (B, N, dim) by a gate for each channel and a gate for each token.

    Both are made of the mean token; the token's own gate also of the token. The published code
    gives the second gate [local, mean] side by side; we add two products, so that the mean is
    multiplied once and never copied N times.
    """

    def __init__(self, dim: int):
        super().__init__()
        reduced = dim // 4
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, reduced)
        self.local_reduce = nn.Linear(dim, reduced)
        self.channel_select = nn.Linear(reduced, dim)
        self.spatial_select = nn.Linear(2 * reduced, 1)

    def gates(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The channel gate (B, 1, dim) and the spatial gate (B, N, 1), both between 0 and 1."""
        tokens = self.norm(tokens)
        mean = F.gelu(self.global_reduce(tokens.mean(dim=1, keepdim=True)))
        local = F.gelu(self.local_reduce(tokens))
        of_local, of_mean = self.spatial_select.weight.chunk(2, dim=1)
        spatial = F.linear(local, of_local) + F.linear(mean, of_mean, self.spatial_select.bias)
        return self.channel_select(mean).sigmoid(), spatial.sigmoid()

    def forward(self, tokens: Tensor) -> Tensor:
        channel, spatial = self.gates(tokens)
        return tokens * channel * spatial


class BiAttnMlp(Mlp):
    """The MLP, on every token alone; then the two gates, which see all tokens."""

    def __init__(self, dim: int, hidden_dim: int, gates: bool = True):
        super().__init__(dim, hidden_dim)
        self.attn = BiAttn(dim) if gates else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attn(super().forward(tokens))


class LightViTBlock(PreNormBlock):
    """Attention, then the MLP with gates; tokens and `Windows` -> tokens."""

    def __init__(self, dim: int, num_heads: int, num_tokens: int,
                 window_size: int | tuple[int, int] = 7, mlp_ratio: float = 4.0,
                 drop_path: float = 0.0, fused: bool = True, gates: bool = True):
        attention = LightViTAttention(dim, num_heads, num_tokens, window_size, fused)
        super().__init__(dim, attention, BiAttnMlp(dim, int(dim * mlp_ratio), gates), DropPath(drop_path))


class LightViTStem(nn.Module):
    """Overlapping 3x3 convolutions, the only ones of the model: images -> tokens in reading order,
    and their grid.

    A token stands for `patch_size` pixels each way: 8 as published; 4 and 2 leave out the last
    halvings.
    """

    def __init__(self, dim: int, patch_size: int = 8, in_channels: int = 3):
        super().__init__()
        half, later = dim // 2, [2 if patch_size >= size else 1 for size in (4, 8)]
        steps = [(in_channels, 2, 1), (half, 1, half), (half, 1, half), (half, later[0], half)]
        layers = [convolution(narrow, half, stride=stride, groups=groups, activation=nn.GELU)
                  for narrow, stride, groups in steps]
        self.stem = nn.Sequential(*chain(*layers))
        self.proj = nn.Conv2d(half, dim, 3, later[1], padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        tokens, grid = to_tokens(self.proj(self.stem(images)))
        return self.norm(tokens), grid


class ResidualMergePatch(nn.Module):
    """Make one token of 2 x 2: all four side by side, mapped, plus their maximum, mapped. Global
    tokens are mapped.

    Tokens in reading order and their grid -> both for the next stage. An odd row or column is
    doubled first: the maximum then is that of the tokens that are there.
    """

    def __init__(self, dim: int, out_dim: int, num_tokens: int, pooling: str = "max"):
        super().__init__()
        self.num_tokens = num_tokens
        self.pooling = pooling
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, out_dim, bias=False)
        self.res_proj = nn.Linear(dim, out_dim, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        maps = _even(tokens[:, self.num_tokens :].unflatten(1, grid))
        top, bottom = maps[:, ::2], maps[:, 1::2]
        four = torch.stack([top[:, :, ::2], bottom[:, :, ::2], top[:, :, 1::2], bottom[:, :, 1::2]], dim=3)
        pooled = four.amax(dim=3) if self.pooling == "max" else four.mean(dim=3)
        image = self.reduction(self.norm(four.flatten(3))) + self.res_proj(pooled)
        of_global = self.proj(self.norm2(tokens[:, : self.num_tokens]))
        return torch.cat([of_global, image.flatten(1, 2)], dim=1), (image.shape[1], image.shape[2])


def _even(maps: Tensor) -> Tensor:
    """Repeat the last row, or column, of maps (B, rows, columns, dim) whose number of rows, or
    columns, is odd.
    """
    for axis in (1, 2):
        if maps.shape[axis] % 2:
            maps = torch.cat([maps, maps.narrow(axis, maps.shape[axis] - 1, 1)], dim=axis)
    return maps


class Stage(nn.ModuleList):
    """A merging, but in the first stage, and blocks: tokens in reading order and their grid -> the
    same.
    """

    def __init__(self, layers: Sequence[nn.Module], num_tokens: int,
                 window_size: int | tuple[int, int]):
        super().__init__(layers)
        self.num_tokens, self.window_size = num_tokens, window_size
        self.grad_checkpointing = False

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        blocks = list(self)
        if isinstance(blocks[0], ResidualMergePatch):
            tokens, grid = blocks.pop(0)(tokens, grid)
        windows = sort_into_windows(grid, self.window_size, self.num_tokens, tokens.device)
        tokens = tokens.index_select(1, windows.order)
        for block in blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, windows, use_reentrant=False)
            else:
                tokens = block(tokens, windows)
        return tokens.index_select(1, windows.inverse), grid


@plain_numbers
class LightViT(nn.Module):
    """Images (batch, in_channels, height, width), normalised -> logits (batch, num_classes).

    Any height and width from `least_size` pixels up; published at 224. Stages, their widths, blocks
    and heads are as long as `embed_dims`. `drop_path_rate` is the last block's chance to be skipped
    in training; the paper's recipe has 0.1, for the base model 0.3. `num_tokens=0`, `gates=False`
    and `pooling="mean"` take out a part each, for the page that asks what it brings. Raises
    LabError on sizes that make no model.
    """

    def __init__(self, patch_size: int = 8, embed_dims: Sequence[int] = (64, 128, 256),
                 num_layers: Sequence[int] = (2, 6, 6), num_heads: Sequence[int] = (2, 4, 8),
                 mlp_ratios: Sequence[float] = (8, 4, 4), num_tokens: int = 8,
                 window_size: int | tuple[int, int] = 7, neck_dim: int = 1280, in_channels: int = 3,
                 num_classes: int = 1000, drop_path_rate: float = 0.0, fused: bool = True,
                 gates: bool = True, pooling: str = "max"):
        super().__init__()
        require_choice("LightViT", "pooling", pooling, ["max", "mean"])
        _require_sizes(patch_size, embed_dims, num_layers, num_heads, mlp_ratios, num_tokens, window_size)
        self.in_channels, self.num_classes, self.num_tokens = in_channels, num_classes, num_tokens
        # one token is left in the last stage
        self.least_size = patch_size * 2 ** (len(embed_dims) - 1)
        self.num_features, self.head_hidden_size = embed_dims[-1], neck_dim
        self.feature_info = [{"num_chs": dim, "reduction": patch_size * 2**stage, "module": f"stages.{stage}"}
                             for stage, dim in enumerate(embed_dims)]
        self.patch_embed = LightViTStem(embed_dims[0], patch_size, in_channels)
        self.global_token = nn.Parameter(torch.zeros(1, num_tokens, embed_dims[0]))
        chances = (drop_path_rate * block / max(sum(num_layers) - 1, 1) for block in range(sum(num_layers)))
        self.stages = nn.ModuleList()
        for stage, (dim, depth, heads, ratio) in enumerate(zip(embed_dims, num_layers, num_heads, mlp_ratios)):
            merge = [ResidualMergePatch(embed_dims[stage - 1], dim, num_tokens, pooling)] if stage else []
            blocks = [LightViTBlock(dim, heads, num_tokens, window_size, ratio, next(chances), fused, gates)
                      for _ in range(depth)]
            self.stages.append(Stage(merge + blocks, num_tokens, window_size))
        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6)
        self.neck = nn.Sequential(nn.Linear(embed_dims[-1], neck_dim), nn.LayerNorm(neck_dim), nn.GELU())
        self.head = nn.Linear(neck_dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of std 0.02 for linear layers, global tokens and position tables, as in
        the paper's code.
        """
        for module in self.modules():
            initialise_linear(module)
            if isinstance(module, LightViTAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        nn.init.trunc_normal_(self.global_token, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The learned tables, those of the attention too, which no optimizer shall treat as
        matrices.
        """
        held = [name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")]
        return {"global_token", *held}

    @property
    def num_prefix_tokens(self) -> int:
        """The global tokens, which stand in front of those of the picture."""
        return self.num_tokens

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """The grid, (rows, columns), of the image tokens of a picture of this size after each
        stage.
        """
        return [(-(-height // step), -(-width // step)) for step in (info["reduction"] for info in self.feature_info)]

    def run_stages(self, images: Tensor, count: int | None = None) -> list[tuple[Tensor, Grid]]:
        """Tokens (B, T + N, dim), in reading order, and their grid after each of the first `count`
        stages.
        """
        self._require(images)
        tokens, grid = self.patch_embed(images)
        tokens = torch.cat([self.global_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        outputs = []
        for stage in self.stages[:count]:
            tokens, grid = stage(tokens, grid)
            outputs.append((tokens, grid))
        return outputs

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last stage and the final norm, (B, T + N, dim); the global tokens
        come first.
        """
        return self.norm(self.run_stages(images)[-1][0])

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Widen by the neck, take the mean of all tokens, the global ones too, and score the
        classes.
        """
        features = self.neck(tokens).mean(dim=1)
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(self, images: Tensor, indices: int | Sequence[int] | None = None,
                              norm: bool = False, output_fmt: str = "NCHW",
                              intermediates_only: bool = False
                              ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps (B, dim, rows, columns) of the stages `indices`, as timm's models give them, alone
        or after all tokens.

        `indices` are numbers of stages, also from the end; one number n stands for the last n, None
        for all. `norm` puts the last stage's map through the final norm. Raises LabError on other
        indices, and formats than "NCHW".
        """
        require_choice("LightViT.forward_intermediates", "output_fmt", output_fmt, ["NCHW"])
        taken = self._stage_numbers(indices)
        outputs = self.run_stages(images, max(taken) + 1 if intermediates_only else None)
        maps = []
        for stage in taken:
            tokens, grid = outputs[stage]
            tokens = self.norm(tokens) if norm and stage == len(self.stages) - 1 else tokens
            maps.append(to_map(tokens[:, self.num_tokens :], grid))
        return maps if intermediates_only else (self.norm(outputs[-1][0]), maps)

    def prune_intermediate_layers(self, indices: int | Sequence[int] = 1, prune_norm: bool = False,
                                  prune_head: bool = True) -> list[int]:
        """Drop what the maps of the stages `indices` do not need, as timm asks; return the indices
        counted from 0.
        """
        taken = self._stage_numbers(indices)
        self.stages = self.stages[: max(taken) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.neck = self.head = nn.Identity()
        return taken

    def _stage_numbers(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.stages)
        if indices is None or (single := number(indices)) is not None:
            indices = range(count - (count if indices is None else int(single)), count)
        for index in indices:
            require_choice("LightViT", "indices", index, range(-count, count))
        return [index % count for index in indices]

    def get_classifier(self) -> nn.Module:
        """The last linear layer, where timm looks for it."""
        return self.head

    @plain_numbers
    def reset_classifier(self, num_classes: int) -> None:
        """Put a new last layer for another number of classes; 0 gives the features before it."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activations inside blocks, compute them again in the backward pass: slower, in
        less memory.
        """
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def _require(self, images: Tensor) -> None:
        require_images("LightViT", images, self.in_channels)
        height, width = images.shape[2:]
        if min(height, width) < self.least_size:
            least = self.least_size
            raise LabError(f"LightViT: images are {height} x {width} pixels; give {least} x {least} or more, "
                           f"torch.nn.functional.interpolate(images, size=({max(height, least)}, {max(width, least)}))")


def _require_sizes(patch_size: int, embed_dims: Sequence[int], num_layers: Sequence[int],
                   num_heads: Sequence[int], mlp_ratios: Sequence[float], num_tokens: int,
                   window_size: int | tuple[int, int]) -> None:
    caller = "LightViT"
    require_choice(caller, "patch_size", patch_size, [2, 4, 8])
    for name, values in {"num_layers": num_layers, "num_heads": num_heads, "mlp_ratios": mlp_ratios}.items():
        if len(values) != len(embed_dims):
            raise LabError(f"{caller}: {name}={tuple(values)} has {len(values)} entries; give one for each of the "
                           f"{len(embed_dims)} stages of embed_dims={tuple(embed_dims)}")
    for dim, depth, heads in zip(embed_dims, num_layers, num_heads):
        require_multiple(caller, "embed_dims", dim, heads, f"each of {heads} heads takes an equal share")
        require_multiple(caller, "embed_dims", dim, 4, "the gates work on a quarter of it")
        require_range(caller, "num_layers", depth, 1)
    require_range(caller, "num_tokens", num_tokens, 0)
    require_size(caller, "window_size", window_size)
