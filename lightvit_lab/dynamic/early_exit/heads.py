"""What an exit is made of: a linear layer on the class token, or the two kinds of LGViT's heads.

LGViT (Xu et al., arXiv 2308.00255): behind early blocks a head with a convolution over the grid of
image tokens, whose surroundings these blocks have not seen yet; behind late ones a head with
attention among few of them. Both add the mean of what they make to the class token. Page:
chapters/dynamic/early_exit.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ...components import attend, join_heads, split_heads, to_map, to_tokens
from ...errors import LabError
from ...models.timm_parts import grid, last_norm, reads_class_token

HEADS = ("linear", "lgvit")


class ExitHead(nn.Module):
    """A norm and a linear layer on what the model's own head reads: a class token, or a mean.

    (batch, tokens, dim) -> logits (batch, classes), divided in eval mode by `temperature`, which
    calibration sets.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.norm, self.head = copy.deepcopy(last_norm(model)), copy.deepcopy(model.head)
        self.prefix = None if reads_class_token(model) else model.num_prefix_tokens
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.head(self.read(tokens))
        return logits if self.training else logits / self.temperature.to(logits)

    def read(self, tokens: Tensor) -> Tensor:
        """What the linear layer reads, (batch, dim)."""
        one = tokens[:, 0] if self.prefix is None else tokens[:, self.prefix:].mean(1)
        return self.norm(one)


class GridHead(ExitHead):
    """LGViT's: the class token, and the mean of what `over` makes of the grid of image tokens."""

    def __init__(self, model: nn.Module, over: nn.Module):
        super().__init__(model)
        if not reads_class_token(model):
            raise LabError('add_exits: head="lgvit" adds to a class token, and the head of this '
                           'model reads none; give head="linear"')
        self.over, self.grid = over, grid("add_exits", model)

    def read(self, tokens: Tensor) -> Tensor:
        """What the linear layer reads, (batch, dim). Raises LabError where the grid is another."""
        rows, columns = self.grid
        tokens = self.norm(tokens)
        if tokens.shape[1] <= rows * columns:
            raise LabError(f"add_exits: {tokens.shape[1]} tokens are too few for the grid of {rows}"
                           f" x {columns} that LGViT's heads read; give a model that keeps all its "
                           'tokens, or head="linear"')
        made = self.over(to_map(tokens[:, -rows * columns:], self.grid))
        return tokens[:, 0] + made.mean(1)


class LocalPerception(nn.Module):
    """Maps (batch, dim, rows, columns) -> tokens: a depthwise 3 x 3 convolution between 1 x 1 ones.

    What it makes is added to the tokens themselves.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.GELU(), nn.BatchNorm2d(dim),
            nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim))

    def forward(self, maps: Tensor) -> Tensor:
        return to_tokens(maps + self.layers(maps))[0]


class GlobalAggregation(nn.Module):
    """Maps (batch, dim, rows, columns) -> tokens: attention among every second row and column."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, maps: Tensor) -> Tensor:
        tokens, _ = to_tokens(maps[..., ::2, ::2])
        heads = split_heads(self.qkv(tokens), 3, self.num_heads)
        return self.proj(join_heads(attend(*heads, None, heads[0].shape[-1] ** -0.5)))


def make_head(kind: str, model: nn.Module, place: int, count: int) -> ExitHead:
    """The head of exit `place` of `count`, of one of `HEADS`. LGViT's first half is local."""
    if kind == "linear":
        return ExitHead(model)
    dim = model.head.in_features
    if place < count / 2:
        return GridHead(model, LocalPerception(dim))
    num_heads = math.gcd(dim, model.blocks[0].attn.num_heads)
    return GridHead(model, GlobalAggregation(dim, num_heads))
