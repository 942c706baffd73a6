"""Layer-wise relevance: what a class gives back, layer by layer, to the attention of each block.

Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, arXiv 2012.09838,
with alpha = 1. Each layer gives the relevance of its outputs back to its inputs in proportion to
what they contributed. There is no rule for GELU, softmax and LayerNorm, nor for positions:
relevance passes them unchanged, which is a convention and no derivation. Where a sum is near zero,
shares of it explode: a change of 1e-6 in a picture can change its relevance by a third. All is
therefore computed in float64, or else the map would depend on the machine.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components import Attention, join_heads
from ..errors import LabError
from ..models import timm_parts
from ..models.vision_transformer import Block, VisionTransformer
from ..runtime import device
from ..runtime.running import as_input, float64_place, on_device
from ..runtime.wrapped import unwrapped


def attention_relevance(model: nn.Module, inputs: Tensor, target: Tensor) -> list[Tensor]:
    """Relevance of attention weights to the target's logit, (batch, heads, N, N) per block.

    `target` is one class a picture, (batch,). Computed in float64, in a copy of the model, and
    returned in float32, where the copy runs: on the CPU if the device knows no float64. Raises
    LabError for models other than the lab's ViT: the rules follow its layers one by one.
    """
    model = unwrapped(model)
    _require_layers(model)
    with on_device(model, precision="float32", place=float64_place(device())) as place:
        model = copy.deepcopy(model).double()
        entering = [model.embed(as_input(model, inputs).to(place))]
        for block in model.blocks:
            entering.append(block(entering[-1]))
        relevance = _from_head(model, model.norm(entering[-1]), target.to(place))
        of_blocks = []
        for block, tokens in zip(reversed(model.blocks), reversed(entering[:-1])):
            relevance, of_weights = _through_block(relevance, block, tokens)
            of_blocks.append(of_weights.float())
    return of_blocks[::-1]


def _require_layers(model: nn.Module) -> None:
    """Raise LabError unless each layer of `model` is one that has a rule."""
    rule = 'relevance: rule="layerwise"'
    if not isinstance(model, VisionTransformer):
        raise LabError(f"{rule} follows the layers of the lab's ViT, and {type(model).__name__} "
                       'has others; give rule="attention", which reads other models too')
    if not timm_parts.has_class_token(model):
        raise LabError(f"{rule} starts at the class token that the head reads, and this model "
                       'reads the mean of its tokens; give rule="attention"')
    for block in timm_parts.plain_blocks("relevance", model):
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            if not isinstance(layer, nn.Linear):
                raise LabError(f"{rule} has no rule for {type(layer).__name__}; give "
                               'rule="attention", or the model before its layers were replaced')


def _from_head(model: VisionTransformer, tokens: Tensor, target: Tensor) -> Tensor:
    """The relevance (B, N, D) of the last tokens: each head reads one, and logits are added."""
    relevance = torch.zeros_like(tokens)
    shares = [F.one_hot(target, model.num_classes).to(tokens)]
    heads = [head for head in (model.head, model.head_dist) if head is not None]
    if len(heads) == 2:
        first, second = (head(tokens[:, place, None]) for place, head in enumerate(heads))
        shares = [share[:, 0] for share in _through_sum(shares[0][:, None], first, second)]
    for place, (head, share) in enumerate(zip(heads, shares)):
        relevance[:, place] = _through_linear(share, head, tokens[:, place])
    return relevance


def _through_block(relevance: Tensor, block: Block, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """From a block's output to its input `tokens` (B, N, D), and to its attention weights."""
    normed = block.norm1(tokens)
    attended = block.attn(normed)
    middle = tokens + attended
    entering_mlp = block.norm2(middle)
    hidden = block.mlp.act(block.mlp.fc1(entering_mlp))
    of_middle, of_mlp = _through_sum(relevance, middle, block.mlp.fc2(hidden))
    of_hidden = _through_linear(of_mlp, block.mlp.fc2, hidden)
    of_mlp = _through_linear(of_hidden, block.mlp.fc1, entering_mlp)
    of_tokens, of_attention = _through_sum(of_middle + of_mlp, tokens, attended)
    of_attention, of_weights = _through_attention(of_attention, block.attn, normed)
    return of_tokens + of_attention, of_weights


def _through_attention(relevance: Tensor, attention: Attention,
                       tokens: Tensor) -> tuple[Tensor, Tensor]:
    """To the tokens (B, N, D) and the weights (B, heads, N, N); factors get a half each."""
    query, key, value = attention.split_heads(tokens)
    weights = (query @ key.mT * attention.scale).softmax(dim=-1)
    of_mixed = _through_linear(relevance, attention.proj, join_heads(weights @ value))
    of_mixed = of_mixed.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    of_weights, of_value = _through_product(of_mixed, weights, value)
    of_query, of_key = _through_product(of_weights, query, key.mT)
    of_qkv = torch.stack([of_query, of_key.mT, of_value]).permute(1, 3, 0, 2, 4).flatten(2)
    return _through_linear(of_qkv, attention.qkv, tokens), of_weights


def _through_linear(relevance: Tensor, layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Shares of positive contributions: positive inputs by positive weights, and both negative."""
    pairs = ((inputs.clamp_min(0), layer.weight.clamp_min(0)),
             (inputs.clamp_max(0), layer.weight.clamp_max(0)))
    share = _divide(relevance, sum(F.linear(part, weight) for part, weight in pairs))
    return sum(part * (share @ weight) for part, weight in pairs)


def _through_sum(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of two summands, in proportion to their sums; one whose sum is 0 gets none.

    They are scaled so that the whole relevance of a picture stays the same.
    """
    share = _divide(relevance, first + second)
    parts = first * share, second * share
    totals = [part.sum((1, 2), keepdim=True) for part in parts]
    whole = relevance.sum((1, 2), keepdim=True) / (totals[0].abs() + totals[1].abs())
    return tuple(part * torch.where(total == 0, 0.0, total.sign() * whole)
                 for part, total in zip(parts, totals))


def _through_product(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Halves of relevance for the two factors of first @ second: factor * gradient / 2."""
    share = _divide(relevance, first @ second)
    return first * (share @ second.mT) / 2, second * (first.mT @ share) / 2


def _divide(relevance: Tensor, whole: Tensor) -> Tensor:
    """relevance / whole, and 0 where the whole is 0."""
    bounded = torch.where(whole.abs() < 1e-9, whole.sign() * 1e-9, whole)
    return torch.where(whole == 0, 0.0, relevance / bounded)
