"""What stands around a mixer: the MLP, the residual block, and how linear layers start."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import plain_numbers


@plain_numbers
class Mlp(nn.Module):
    """Two linear layers with a GELU between, on every token alone; (batch, tokens, dim) -> same."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))


class PreNormBlock(nn.Module):
    """A mixer, then an MLP; each works on normalised tokens, and its result is added to its input.

    The mixer also gets what else the call gives: the grid, or LightViT's windows. `drop_path` works
    on what is added, so that in training it can drop a picture's share of it.
    """

    def __init__(self, dim: int, mixer: nn.Module, mlp: nn.Module,
                 drop_path: nn.Module | None = None):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = mixer
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = mlp
        self.drop_path = nn.Identity() if drop_path is None else drop_path

    def forward(self, tokens: Tensor, *context: Any) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), *context))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


def initialise_linear(module: nn.Module) -> None:
    """Draw a linear layer's weights, truncated normal of std 0.02; no bias. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
