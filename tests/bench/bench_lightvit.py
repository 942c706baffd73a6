"""LightViT-Tiny beside its formulas taken literally, and beside timm's models of its class, taking turns.

`make bench` prints the ratios of times with their intervals (above 1: the rival is slower) and the time by part.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightvit_lab.models.lightvit import BiAttn, LightViT, LightViTAttention, ResidualMergePatch


class LiteralLightViT(nn.Module):
    """The formulas of LightViT, one after the other, on the weights of `model`, for maps that divide into windows.

    Tokens stay in reading order; every block cuts the map into windows and puts it together again, writes softmax out,
    gives the spatial gate [local, mean] side by side, and multiplies both gates before the tokens.
    """

    def __init__(self, model: LightViT):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        model = self.model
        tokens, grid = model.patch_embed(images)
        tokens = torch.cat([model.global_token.expand(len(tokens), -1, -1), tokens], dim=1)
        for stage in model.stages:
            for layer in stage:
                if isinstance(layer, ResidualMergePatch):
                    tokens, grid = merge(layer, tokens, *grid)
                else:
                    tokens = tokens + attention(layer.attn, layer.norm1(tokens), *grid, stage.window_size)
                    hidden = layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.norm2(tokens))))
                    tokens = tokens + hidden * gates(layer.mlp.attn, hidden)
        return model.head(model.neck(model.norm(tokens)).mean(dim=1))


def cut(tokens: Tensor, height: int, width: int, size: int) -> Tensor:
    """(B, height * width, C) in reading order -> (B * windows, size * size, C)."""
    batch, _, dim = tokens.shape
    tokens = tokens.view(batch, height // size, size, width // size, size, dim)
    return tokens.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, dim)


def join(windows: Tensor, height: int, width: int, size: int) -> Tensor:
    """The reverse of `cut`."""
    dim = windows.shape[-1]
    windows = windows.view(-1, height // size, width // size, size, size, dim)
    return windows.permute(0, 1, 3, 2, 4, 5).reshape(-1, height * width, dim)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v for every head; all (B, tokens, C)."""
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1) + bias
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def attention(layer: LightViTAttention, tokens: Tensor, height: int, width: int, size: int) -> Tensor:
    """Attention in windows, aggregation by the global tokens, broadcast to the image tokens."""
    count, heads = layer.num_tokens, layer.num_heads
    query, key, value = layer.qkv(tokens).chunk(3, dim=-1)
    image = [part[:, count:] for part in (query, key, value)]
    bias = layer.relative_position_bias_table[layer.relative_position_index]
    bias = bias.view(size * size, size * size, heads).permute(2, 0, 1)
    local = join(attend(*(cut(part, height, width, size) for part in image), heads, bias), height, width, size)
    aggregated = attend(query[:, :count], *image[1:], heads)
    local = local + attend(image[0], *layer.kv_global(aggregated).chunk(2, dim=-1), heads)
    return layer.proj(torch.cat([aggregated, local], dim=1))


def gates(layer: BiAttn, tokens: Tensor) -> Tensor:
    """The product of the channel gate and the spatial gate, (B, N, C)."""
    tokens = layer.norm(tokens)
    mean = F.gelu(layer.global_reduce(tokens.mean(dim=1, keepdim=True)))
    local = F.gelu(layer.local_reduce(tokens))
    both = torch.cat([local, mean.expand(-1, local.shape[1], -1)], dim=-1)
    return layer.channel_select(mean).sigmoid() * layer.spatial_select(both).sigmoid()


def merge(layer: ResidualMergePatch, tokens: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """Each 2 x 2 neighbourhood becomes a token: all four side by side, and their maximum."""
    of_global, image = tokens[:, : layer.num_tokens], tokens[:, layer.num_tokens :]
    maps = image.unflatten(1, (height, width))
    four = torch.cat([maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
    largest = F.max_pool2d(maps.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    image = layer.reduction(layer.norm(four)) + layer.res_proj(largest)
    tokens = torch.cat([layer.proj(layer.norm2(of_global)), image.flatten(1, 2)], dim=1)
    return tokens, (height // 2, width // 2)
