"""Layer-wise relevance: what is handed back from a class, layer by layer, to the attention of each
block.

Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, arXiv 2012.09838,
with alpha = 1. Each layer hands the relevance of its outputs to its inputs in proportion to what
they contributed. There is no rule for GELU, softmax and LayerNorm, nor for positions: relevance
passes them unchanged, which is a convention and no derivation. Where a sum is near zero, shares of
it explode: a change of 1e-6 in a picture can change its relevance by a third. All is therefore
computed in float64, or else the map would depend on the machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..components import Attention
from ..errors import LabError
from ..models import timm_parts
from ..models.vision_transformer import Block, VisionTransformer
from ..runtime import device
from ..runtime.running import as_input, float64_place, on_device
from ..runtime.wrapped import unwrapped


def attention_relevance(model: nn.Module, inputs: Tensor, target: Tensor) -> list[Tensor]:
    """The relevance of each attention weight to the logit of `target` (batch,): (batch, heads, N,
    N) per block.

    Followed in float64, in a copy of the model, and given in float32, where the copy runs: on the
    CPU if the device knows no float64. Raises LabError for models other than the lab's ViT: the
    rules follow its layers one by one.
    """
    model = unwrapped(model)
    _require_layers(model)
    with on_device(model, precision="float32", place=float64_place(device())) as place:
        model = copy.deepcopy(model).double()
        entering = [model.embed(as_input(model, inputs).to(place))]
        for block in model.blocks:
            entering.append(block(entering[-1]))
        relevance, found = _from_head(model, model.norm(entering[-1]), target.to(place)), []
        for block, tokens in zip(reversed(model.blocks), reversed(entering[:-1])):
            relevance, of_weights = _through_block(relevance, block, tokens)
            found.append(of_weights.float())
    return found[::-1]


def _require_layers(model: nn.Module) -> None:
    """Raise LabError unless each layer of `model` is one that has a rule."""
    if not isinstance(model, VisionTransformer):
        raise LabError(f'relevance: rule="layerwise" follows the layers of the lab\'s ViT, and {type(model).__name__} has '
                       'others; give rule="attention", which takes any model whose attention can be read')
    if not timm_parts.has_class_token(model):
        raise LabError('relevance: rule="layerwise" starts at the tokens in front that the heads read, and this model '
                       'takes the mean of all; give rule="attention"')
    for block in timm_parts.plain_blocks("relevance", model):
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            if not isinstance(layer, nn.Linear):
                raise LabError(f'relevance: rule="layerwise" has no rule for {type(layer).__name__}; give '
                               'rule="attention", or the model before its layers were replaced')


def _from_head(model: VisionTransformer, tokens: Tensor, target: Tensor) -> Tensor:
    """The relevance (B, N, D) of the last tokens, of which the heads read one each; their logits
    are two summands.
    """
    relevance = torch.zeros_like(tokens)
    chosen = F.one_hot(target, model.num_classes).to(tokens)
    heads = [head for head in (model.head, model.head_dist) if head is not None]
    said = [head(tokens[:, place]) for place, head in enumerate(heads)]
    shares = [chosen] if len(heads) == 1 else [share[:, 0] for share in _through_sum(
        chosen[:, None], said[0][:, None], said[1][:, None])]
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
    of_mlp = _through_linear(_through_linear(of_mlp, block.mlp.fc2, hidden), block.mlp.fc1, entering_mlp)
    of_tokens, of_attention = _through_sum(of_middle + of_mlp, tokens, attended)
    of_attention, of_weights = _through_attention(of_attention, block.attn, normed)
    return of_tokens + of_attention, of_weights


def _through_attention(relevance: Tensor, attention: Attention,
                       tokens: Tensor) -> tuple[Tensor, Tensor]:
    """To the tokens (B, N, D) and to the weights (B, heads, N, N); a product of two shares its
    relevance among them.
    """
    query, key, value = attention.split_heads(tokens)
    weights = (query @ key.mT * attention.scale).softmax(dim=-1)
    mixed = weights @ value
    of_mixed = _through_linear(relevance, attention.proj, mixed.transpose(1, 2).flatten(2))
    of_mixed = of_mixed.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    of_weights, of_value = (part / 2 for part in _through(of_mixed, torch.matmul, weights, value))
    of_query, of_key = (part / 2 for part in _through(of_weights, lambda q, k: q @ k.transpose(-2, -1), query, key))
    # (B, N, 3 * D)
    of_qkv = torch.stack([of_query, of_key, of_value]).permute(1, 3, 0, 2, 4).flatten(2)
    return _through_linear(of_qkv, attention.qkv, tokens), of_weights


def _through_linear(relevance: Tensor, layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Shares of the positive contributions alone: positive inputs by positive weights, negative by
    negative.
    """
    positive, negative = inputs.clamp_min(0), inputs.clamp_max(0)
    share = _divide(relevance, F.linear(positive, layer.weight.clamp_min(0)) + F.linear(negative, layer.weight.clamp_max(0)))
    return positive * (share @ layer.weight.clamp_min(0)) + negative * (share @ layer.weight.clamp_max(0))


def _through_sum(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of two summands, scaled so that a picture's whole relevance is kept, in proportion to
    their sums.

    One whose sum is 0 gets none.
    """
    share = _divide(relevance, first + second)
    parts = first * share, second * share
    totals = [part.sum((1, 2), keepdim=True) for part in parts]
    whole = relevance.sum((1, 2), keepdim=True) / (totals[0].abs() + totals[1].abs())
    return tuple(part * torch.where(total == 0, 0.0, total.sign() * whole) for part, total in zip(parts, totals))


def _through(relevance: Tensor, function: Callable[[Tensor, Tensor], Tensor], *inputs:
             Tensor) -> list[Tensor]:
    """Shares of the inputs of any product: input * derivative * relevance / output."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        output = function(*inputs)
        slopes = torch.autograd.grad(output, inputs, _divide(relevance, output.detach()))
    return [tensor.detach() * slope for tensor, slope in zip(inputs, slopes)]


def _divide(relevance: Tensor, whole: Tensor) -> Tensor:
    """relevance / whole, and 0 where the whole is 0."""
    return torch.where(whole == 0, 0.0, relevance / torch.where(whole.abs() < 1e-9, whole.sign() * 1e-9, whole))
