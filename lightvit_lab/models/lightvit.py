"""LightViT: attention in windows, and global tokens that gather from all and give back to all.

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
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..components import (Grid, Mlp, PreNormBlock, RelativePositionBias, Windows, attend,
                          attention_weights, convolution, initialise_linear, join_heads,
                          sort_into_windows, split_heads, to_map, to_tokens)
from ..errors import (LabError, number, plain_numbers, require_choice, require_images,
                      require_multiple, require_range, require_size)
from ..runtime.full_precision import full_precision

FEW_KEYS = 32       # up to here a CPU attends faster without the fused kernel


@plain_numbers
class LightViTAttention(RelativePositionBias):
    """Attention in windows, plus what global tokens aggregate from, and broadcast to, all tokens.

    (B, T + N, dim) in window order -> the same. `fused` chooses torch's fused attention; `weights`
    gives the weights themselves. `padding` says what a window's empty places are: "masked", or
    "published", tokens of zeros, which are looked at like any other.
    """

    def __init__(self, dim: int, num_heads: int, num_tokens: int,
                 window_size: int | tuple[int, int] = 7, fused: bool = True,
                 padding: str = "masked"):
        super().__init__(num_heads, window_size, in_state=True)
        self.num_tokens, self.fused, self.padding = num_tokens, fused, padding
        self.qkv = nn.Linear(dim, 3 * dim)
        self.kv_global = nn.Linear(dim, 2 * dim) if num_tokens else None
        self.proj = nn.Linear(dim, dim)

    def attend(self, query: Tensor, key: Tensor, value: Tensor,
               bias: Tensor | None = None) -> Tensor:
        """Mean of the values for each query, heads side by side again: (B, queries, dim)."""
        fused = self.fused and (query.is_cuda or key.shape[2] > FEW_KEYS)
        return join_heads(attend(query, key, value, bias, fused=fused))  # (B, queries, D)

    def in_windows(self, tokens: Tensor, qkv: Tensor, windows: Windows) -> tuple[Tensor, ...]:
        """Queries, keys, values (B * count, heads, area, d), and what is added to their scores."""
        image = qkv[:, self.num_tokens:]
        if self.padding == "masked" or not windows.padded:
            cut, bias = windows.cut(image), self.position_bias(windows, qkv.shape[0])
        else:
            empty = self.qkv(torch.zeros_like(tokens[0, :1]))[0]
            cut, bias = windows.cut(image, empty), self.look_up_bias(windows.area)
        return *split_heads(cut, 3, self.num_heads), bias

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        qkv, count = self.qkv(tokens), self.num_tokens
        local = windows.join(self.attend(*self.in_windows(tokens, qkv, windows)))
        if not count:
            return self.proj(local)
        query, key, value = split_heads(qkv, 3, self.num_heads)
        aggregated = self.attend(query[:, :, :count], key[:, :, count:], value[:, :, count:])
        from_global = split_heads(self.kv_global(aggregated), 2, self.num_heads)
        broadcast = self.attend(query[:, :, count:], *from_global)
        return self.proj(torch.cat([aggregated, local + broadcast], dim=1))

    @full_precision
    def weights(self, tokens: Tensor, windows: Windows) -> dict[str, Tensor]:
        """The attention weights, rows summing to 1, with image tokens in reading order.

        "window" (B, count, heads, area, area), where masked places get no weight, and with global
        tokens "aggregation" (B, heads, T, N) and "broadcast" (B, heads, N, T).
        """
        qkv, count, batch = self.qkv(tokens), self.num_tokens, tokens.shape[0]
        query, key, _, bias = self.in_windows(tokens, qkv, windows)
        local = attention_weights(query, key, bias)
        found = {"window": local.unflatten(0, (batch, windows.count))}
        if count:
            query, key, value = split_heads(qkv, 3, self.num_heads)
            aggregation = attention_weights(query[:, :, :count], key[:, :, count:])
            aggregated = join_heads(aggregation.to(value) @ value[:, :, count:])
            from_global, _ = split_heads(self.kv_global(aggregated), 2, self.num_heads)
            reading = windows.inverse[count:] - count
            found["aggregation"] = aggregation[..., reading]
            found["broadcast"] = attention_weights(query[:, :, count:], from_global)[:, :, reading]
        return found


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
    """The MLP, on every token alone; then the two gates, which depend on all tokens."""

    def __init__(self, dim: int, hidden_dim: int, gates: bool = True):
        super().__init__(dim, hidden_dim)
        self.attn = BiAttn(dim) if gates else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attn(super().forward(tokens))


class LightViTBlock(PreNormBlock):
    """Attention, then the MLP with gates; tokens and `Windows` -> tokens.

    With `drop_global_tokens` the MLP and its gates see image tokens alone, and only these go on.
    """

    def __init__(self, dim: int, num_heads: int, num_tokens: int,
                 window_size: int | tuple[int, int] = 7, mlp_ratio: float = 4.0,
                 drop_path: float = 0.0, fused: bool = True, gates: bool = True,
                 padding: str = "masked", drop_global_tokens: bool = False):
        attention = LightViTAttention(dim, num_heads, num_tokens, window_size, fused, padding)
        mlp = BiAttnMlp(dim, int(dim * mlp_ratio), gates)
        super().__init__(dim, attention, mlp, DropPath(drop_path))
        self.dropped = num_tokens if drop_global_tokens else 0

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), windows))
        tokens = tokens[:, self.dropped:]
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class LightViTStem(nn.Module):
    """Overlapping 3x3 convolutions, the only ones of the model: images -> tokens and their grid.

    A token stands for `patch_size` pixels each way: 8 as published; 4 and 2 leave out the last
    halvings.
    """

    def __init__(self, dim: int, patch_size: int = 8, in_channels: int = 3):
        super().__init__()
        half, layers = dim // 2, convolution(in_channels, dim // 2, stride=2, activation=nn.GELU)
        for stride in (1, 1, 2 if patch_size >= 4 else 1):
            layers += convolution(half, half, stride=stride, groups=half, activation=nn.GELU)
        self.stem = nn.Sequential(*layers)
        self.proj = nn.Conv2d(half, dim, 3, 2 if patch_size >= 8 else 1, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        tokens, grid = to_tokens(self.proj(self.stem(images)))
        return self.norm(tokens), grid


class ResidualMergePatch(nn.Module):
    """Make one token of 2 x 2: all four side by side, mapped, plus their maximum, mapped.

    Global tokens are mapped too. Tokens in reading order and their grid -> both for the next stage.
    An odd last row or column is doubled first, which leaves the maximum as it is, or with `padding`
    "published" followed by zeros, which does not.
    """

    def __init__(self, dim: int, out_dim: int, num_tokens: int, pooling: str = "max",
                 padding: str = "masked"):
        super().__init__()
        self.num_tokens, self.pooling, self.padding = num_tokens, pooling, padding
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, out_dim, bias=False)
        self.res_proj = nn.Linear(dim, out_dim, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        maps = _even(tokens[:, self.num_tokens :].unflatten(1, grid), self.padding == "published")
        left, right = maps[:, :, ::2], maps[:, :, 1::2]
        four = torch.stack([left[:, ::2], left[:, 1::2], right[:, ::2], right[:, 1::2]], dim=3)
        pooled = four.amax(dim=3) if self.pooling == "max" else four.mean(dim=3)
        image = self.reduction(self.norm(four.flatten(3))) + self.res_proj(pooled)
        of_global = self.proj(self.norm2(tokens[:, : self.num_tokens]))
        return torch.cat([of_global, image.flatten(1, 2)], dim=1), (image.shape[1], image.shape[2])


def _even(maps: Tensor, zeros: bool = False) -> Tensor:
    """Maps (B, rows, columns, dim), the last row or column repeated where odd, or `zeros` added."""
    for axis in (1, 2):
        if maps.shape[axis] % 2:
            last = maps.narrow(axis, maps.shape[axis] - 1, 1)
            maps = torch.cat([maps, torch.zeros_like(last) if zeros else last], dim=axis)
    return maps


class Stage(nn.ModuleList):
    """A merging, but in the first stage, and blocks: tokens in reading order, grid -> the same."""

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
        dropped = windows.order.shape[0] - tokens.shape[1]      # global tokens, by the last block
        return tokens.index_select(1, windows.inverse[dropped:] - dropped), grid


@plain_numbers
class LightViT(nn.Module):
    """LightViT: images (batch, in_channels, height, width), normalised -> logits.

    Any height and width from `least_size` pixels up; published at 224. Stages, their widths, blocks
    and heads are as long as `embed_dims`. `drop_path_rate` is the last block's chance to be skipped
    in training; the paper's recipe has 0.1, for the base model 0.3. `num_tokens=0`, `gates=False`
    and `pooling="mean"` take out a part each, for the page that asks what it brings.

    The authors' code for detection does three things otherwise where sizes do not divide, so their
    detection weights want them: `padding="published"` lets tokens look at the empty places of a
    window, and follows an odd map by zeros before it is merged; `drop_global_tokens` takes the
    global tokens out before the last block's MLP. Raises LabError on sizes that make no model.
    """

    def __init__(self, patch_size: int = 8, embed_dims: Sequence[int] = (64, 128, 256),
                 num_layers: Sequence[int] = (2, 6, 6), num_heads: Sequence[int] = (2, 4, 8),
                 mlp_ratios: Sequence[float] = (8, 4, 4), num_tokens: int = 8,
                 window_size: int | tuple[int, int] = 7, neck_dim: int = 1280, in_channels: int = 3,
                 num_classes: int = 1000, drop_path_rate: float = 0.0, fused: bool = True,
                 gates: bool = True, pooling: str = "max", padding: str = "masked",
                 drop_global_tokens: bool = False):
        super().__init__()
        require_choice("LightViT", "pooling", pooling, ["max", "mean"])
        require_choice("LightViT", "padding", padding, ["masked", "published"])
        require_range("LightViT", "num_tokens", num_tokens, 0)
        require_size("LightViT", "window_size", window_size)
        _require_stages(patch_size, embed_dims, num_layers, num_heads, mlp_ratios)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.num_tokens = num_tokens
        self.num_prefix_tokens = 0 if drop_global_tokens else num_tokens    # of the last stage
        # one token is left in the last stage
        self.least_size = patch_size * 2 ** (len(embed_dims) - 1)
        self.num_features, self.head_hidden_size = embed_dims[-1], neck_dim
        self.feature_info = [
            {"num_chs": dim, "reduction": patch_size * 2**stage, "module": f"stages.{stage}"}
            for stage, dim in enumerate(embed_dims)]
        self.patch_embed = LightViTStem(embed_dims[0], patch_size, in_channels)
        self.global_token = nn.Parameter(torch.zeros(1, num_tokens, embed_dims[0]))
        self.stages, depth, last = nn.ModuleList(), 0, max(sum(num_layers) - 1, 1)
        sizes = zip([None, *embed_dims], embed_dims, num_layers, num_heads, mlp_ratios)
        for before, dim, blocks, heads, ratio in sizes:
            layers = ([ResidualMergePatch(before, dim, num_tokens, pooling, padding)] if before
                      else [])
            for place in range(depth, depth + blocks):
                layers.append(LightViTBlock(
                    dim, heads, num_tokens, window_size, ratio, drop_path_rate * place / last,
                    fused, gates, padding, drop_global_tokens and place == sum(num_layers) - 1))
            depth += blocks
            self.stages.append(Stage(layers, num_tokens, window_size))
        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6)
        widened = nn.Linear(embed_dims[-1], neck_dim)
        self.neck = nn.Sequential(widened, nn.LayerNorm(neck_dim), nn.GELU())
        self.head = nn.Linear(neck_dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of std 0.02 for all weights that are learned, as in the paper's code."""
        for module in self.modules():
            initialise_linear(module)
            if isinstance(module, LightViTAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        nn.init.trunc_normal_(self.global_token, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The learned tables, also of attention, which no optimizer shall treat as matrices."""
        tables = [name for name, _ in self.named_parameters() if name.endswith("bias_table")]
        return {"global_token", *tables}

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """The grid, (rows, columns), of a picture's image tokens after each stage."""
        steps = [info["reduction"] for info in self.feature_info]
        return [(-(-height // step), -(-width // step)) for step in steps]

    def run_stages(self, images: Tensor, count: int | None = None) -> list[tuple[Tensor, Grid]]:
        """Tokens (B, T + N, dim), in reading order, and their grid after each of `count` stages."""
        self._require_images(images)
        tokens, grid = self.patch_embed(images)
        tokens = torch.cat([self.global_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        outputs = []
        for stage in self.stages[:count]:
            tokens, grid = stage(tokens, grid)
            outputs.append((tokens, grid))
        return outputs

    def forward_features(self, images: Tensor) -> Tensor:
        """All tokens after the last stage and the norm, (B, T + N, dim), the global ones first."""
        return self.norm(self.run_stages(images)[-1][0])

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Widen by the neck, take the mean of all tokens, also global ones, score the classes."""
        features = self.neck(tokens).mean(dim=1)
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(self, images: Tensor, indices: int | Sequence[int] | None = None,
                              norm: bool = False, output_fmt: str = "NCHW",
                              intermediates_only: bool = False) -> Any:
        """Maps (B, dim, rows, columns) of the stages `indices`, as timm's models give them.

        They come alone with `intermediates_only`, else as the second of a pair, after all tokens.
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
            maps.append(to_map(tokens[:, -grid[0] * grid[1] :], grid))
        return maps if intermediates_only else (self.norm(outputs[-1][0]), maps)

    def prune_intermediate_layers(self, indices: int | Sequence[int] = 1, prune_norm: bool = False,
                                  prune_head: bool = True) -> list[int]:
        """Drop what the maps of the stages `indices` do not need, as timm asks; returns these."""
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
        """Compute activations inside blocks again in the backward pass: slower, in less memory."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def _require_images(self, images: Tensor) -> None:
        require_images("LightViT", images, self.in_channels)
        (height, width), least = images.shape[2:], self.least_size
        if min(height, width) < least:
            size = (max(height, least), max(width, least))
            raise LabError(f"LightViT: images are {height} x {width} pixels; give {least} x "
                           f"{least} or more, torch.nn.functional.interpolate(images, size={size})")


def _require_stages(patch_size: int, embed_dims: Sequence[int], num_layers: Sequence[int],
                    num_heads: Sequence[int], mlp_ratios: Sequence[float]) -> None:
    require_choice("LightViT", "patch_size", patch_size, [2, 4, 8])
    sizes = {"num_layers": num_layers, "num_heads": num_heads, "mlp_ratios": mlp_ratios}
    for name, values in sizes.items():
        if len(values) != len(embed_dims):
            raise LabError(f"LightViT: {name}={tuple(values)} has {len(values)} entries; give one "
                           f"for each of the {len(embed_dims)} stages of embed_dims={embed_dims}")
    for dim, depth, heads in zip(embed_dims, num_layers, num_heads):
        require_range("LightViT", "num_layers", depth, 1)
        require_range("LightViT", "num_heads", heads, 1)
        why = f"each of {heads} heads takes an equal share"
        require_multiple("LightViT", "embed_dims", dim, heads, why)
        require_multiple("LightViT", "embed_dims", dim, 4, "the gates work on a quarter of it")
