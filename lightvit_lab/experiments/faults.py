"""Three classic mistakes in a Vision Transformer, built on purpose, and their symptoms.

`chapters/foundations/vision_transformer` shows the symptoms and asks for the diagnosis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import data, models
from ..errors import require_choice
from ..explain import record_attention
from ..components import Attention
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, on_device
from ..training import evaluate


class WrongAxisAttention(Attention):
    """The softmax taken over the queries: columns sum to 1, so a token gets a sum, no mean."""

    def weights(self, tokens: Tensor) -> Tensor:
        """The faulty weights, (batch, heads, tokens, tokens), whose columns sum to 1."""
        query, key, _ = self.split_heads(tokens)
        return (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-2)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = self.weights(tokens) @ self.split_heads(tokens)[2]
        return self.proj(mixed.transpose(1, 2).flatten(2))


FAULTS = ("healthy", "no position", "wrong axis", "no scale")
# What the page's exercise asks for.
PATIENTS = {"A": "wrong axis", "B": "no scale", "C": "no position"}


def build(fault: str, **kwargs: object) -> nn.Module:
    """A `lab_vit_student` with one of FAULTS built in; `kwargs` go to the model."""
    require_choice("faults.build", "fault", fault, FAULTS)
    model = models.create_model("lab_vit_student", position=fault != "no position", **kwargs)
    for block in model.blocks:
        if fault == "wrong axis":
            broken = WrongAxisAttention(model.dim, block.attn.num_heads)
            broken.load_state_dict(block.attn.state_dict())
            block.attn = broken
        if fault == "no scale":
            block.attn.scale = 1.0
    return model


def symptoms(model: nn.Module, pictures: data.Pictures) -> dict[str, float]:
    """What the faults of a trained model show in, over `pictures`: shares in [0, 1], logits.

    `accuracy`; `accuracy_shuffled`, with the patches of every picture shuffled alike; `row_sum_low`
    and `row_sum_high`, the least and the greatest row sum of any attention matrix; `entropy`, the
    mean entropy of a row as a share of log N (1: all tokens alike, 0: one token);
    `largest_logit`, the 99.9th percentile of |q k| before the softmax.
    """
    logits = []

    def record(attention: Attention, arguments: tuple, _keywords: dict) -> None:
        query, key, _ = attention.split_heads(arguments[0])
        products = (query @ key.transpose(-2, -1) * attention.scale).abs().float()
        logits.append(products.flatten().quantile(0.999).item())

    hooks = [Hook(block.attn, "input", record) for block in model.blocks]
    with on_device(model), hooked(hooks), record_attention(model) as maps:
        model(as_input(model, pictures.batch(torch.arange(min(64, len(pictures))))[0]))
    rows = torch.cat([block_map.flatten(0, 2) for block_map in maps])
    shares = rows / rows.sum(-1, keepdim=True)
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum(-1).mean() / math.log(rows.shape[-1])
    shuffled = nn.Sequential(ShufflePatches(model.patch_size), model)
    return {"accuracy": evaluate(model, pictures).accuracy,
            "accuracy_shuffled": evaluate(shuffled, pictures).accuracy,
            "row_sum_low": rows.sum(-1).min().item(), "row_sum_high": rows.sum(-1).max().item(),
            "entropy": entropy.item(), "largest_logit": max(logits)}


class ShufflePatches(nn.Module):
    """Shuffle the patches of every picture alike; (batch, channels, size, size) in and out."""

    def __init__(self, patch_size: int, seed: int = 0):
        super().__init__()
        self.patch_size, self.seed = patch_size, seed

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        patches = nn.functional.unfold(images, self.patch_size,
                                       stride=self.patch_size)    # (B, C * P * P, N)
        seeded = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(patches.shape[-1], generator=seeded)
        patches = patches.index_select(2, order.to(patches.device))
        return nn.functional.fold(patches, size, self.patch_size, stride=self.patch_size)
