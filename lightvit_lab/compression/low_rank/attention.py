"""Low-rank attention: fewer keys, or rows and columns, than tokens.

As `chapters/compression/low_rank` derives it. The other meaning of "low rank": here no weight gets
smaller, but the (tokens, tokens) square of attention weights does. Linformer (Wang et al., arXiv
2006.04768) attends to `rank` learned mixtures of keys and values. Nystroemformer (Xiong et al.,
arXiv 2102.03902) rebuilds the square from `rank` landmarks among queries and keys. Neither is close
to a trained attention before it is trained on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components import attend
from ...errors import LabError, plain_numbers, require_choice
from ...models.timm_parts import AttentionParts, attention_modules, plain_attention, token_counts
from ...models.transforming import Plan, transform, transformed

# steps of the pseudo-inverse; 6 as published. With more, what float32 rounds away begins to grow
ITERATIONS = 14


@plain_numbers
class LowRankAttention(AttentionParts):
    """A trained attention's parts, with a method `mix` that works on `rank` segments of tokens.

    (batch, tokens, dim) -> (batch, tokens, dim), for `num_tokens` tokens. The `prefix` tokens in
    front, such as the class token, are segments of their own; the rest are runs of neighbours in
    reading order. `means` (rank, num_tokens) makes segments' means of tokens.
    """

    def __init__(self, attention: nn.Module, num_tokens: int, prefix: int, rank: int):
        super().__init__(attention)
        self.num_tokens, self.rank = num_tokens, rank
        self.register_buffer("means", segment_means(num_tokens, prefix, rank))

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise LabError("low-rank attention: a mask is for pairs of tokens, which it does not "
                           "compare; call it without")
        if tokens.shape[1] != self.num_tokens:
            raise LabError(f"low-rank attention: {tokens.shape[1]} tokens, and it was made for "
                           f"{self.num_tokens}; give pictures of the model's size and all tokens")
        return self.join(self.mix(*self.split_heads(tokens)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """softmax(query key^T) value, by torch's fused attention unless `fused` is off."""
        return attend(query, key, value, scale=self.scale, fused=self.fused)


class LinformerAttention(LowRankAttention):
    """Keys and values are mixed over the tokens by `means`, which is learned from there on."""

    def __init__(self, attention: nn.Module, num_tokens: int, prefix: int, rank: int):
        super().__init__(attention, num_tokens, prefix, rank)
        means = self.means
        del self.means
        self.means = nn.Parameter(means)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(batch, heads, tokens, head_dim) of queries, keys, values -> what each query gets."""
        return self.attend(query, self.means @ key, self.means @ value)


class NystromAttention(LowRankAttention):
    """The square is softmax(q k'^T) pinv(softmax(q' k'^T)) softmax(q' k^T).

    q' and k' are segments' means: landmarks. Read from the right, two of the three factors are
    attention themselves, and fused. `iterations` are those of the pseudo-inverse: with as many
    landmarks as tokens the published 6 leave a tenth of a logit, 14 less than a thousandth.
    """

    iterations = ITERATIONS

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(batch, heads, tokens, head_dim) of queries, keys, values -> what each query gets."""
        few_queries, few_keys = self.means @ query, self.means @ key
        gathered = self.attend(few_queries, key, value)
        # no inverse in half precision
        exact = torch.promote_types(gathered.dtype, torch.float32)
        between = (few_queries @ few_keys.mT * self.scale).to(exact).softmax(dim=-1)
        solved = pseudo_inverse(between, self.iterations) @ gathered.to(exact)
        return self.attend(query, few_keys, solved.to(gathered))


METHODS = {"linformer": LinformerAttention, "nystrom": NystromAttention}


@plain_numbers
def replace_attention(model: nn.Module, method: str = "linformer", rank: int = 16) -> nn.Module:
    """A copy of `model` with low-rank attention in every block; train it on before use.

    `method` is "linformer" or "nystrom", `rank` the number of segments, the class token's own among
    them; the trained parts are taken over. For the lab's ViT and compact transformer and timm's ViT
    and DeiT. Raises LabError on ranks beyond the number of tokens, on LightViT, whose windows and
    global tokens are such a method themselves, and on models whose attention was replaced before.
    """
    plan = {"transform": "low_rank_attention", "method": method, "rank": rank}
    return transformed(model, plan, apply_low_rank_attention)


@transform("low_rank_attention")
def apply_low_rank_attention(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace every attention of `model` as `plan` says: {"method": "linformer", "rank": 16}."""
    caller, method, rank = "replace_attention", plan.get("method"), plan.get("rank")
    require_choice(caller, "method", method, METHODS)
    if any(isinstance(module, LowRankAttention) for module in model.modules()):
        raise LabError(f"{caller}: attention was replaced before; give the model it was made from")
    attentions = attention_modules(model)
    for attention in attentions.values():
        plain_attention(caller, attention)
    tokens, prefix = token_counts(caller, model)
    if type(rank) is not int or not prefix < rank <= tokens:
        raise LabError(f"{caller}: rank={rank!r}, of {tokens} tokens, the first {prefix} alone in "
                       f"segments; give a whole number {prefix + 1} <= rank <= {tokens}")
    for name, attention in attentions.items():
        parent, _, leaf = name.rpartition(".")
        replaced = METHODS[method](attention, tokens, prefix, rank).to(next(attention.parameters()))
        setattr(model.get_submodule(parent), leaf, replaced)
    return model


@plain_numbers
def segment_means(num_tokens: int, prefix: int, rank: int) -> Tensor:
    """(rank, num_tokens) weights, rows summing to 1: means of about equally long runs of tokens.

    Each of the `prefix` tokens in front is a run of its own.
    """
    segment = prefix + torch.arange(num_tokens - prefix) * (rank - prefix) // (num_tokens - prefix)
    member = F.one_hot(torch.cat([torch.arange(prefix), segment]), rank).T.float()
    return member / member.sum(dim=1, keepdim=True)


@plain_numbers
def pseudo_inverse(matrix: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Moore-Penrose inverse of positive matrices (..., n, n), by eq. 11 of arXiv 2102.03902.

    Products are all it takes. Singular values that are small beside the norm need many iterations,
    each of which brings them 3.25 times nearer.
    """
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    norms = matrix.abs().sum(-1).amax(-1) * matrix.abs().sum(-2).amax(-1)
    inverse = matrix.mT / norms[..., None, None]
    for _ in range(iterations):
        product = matrix @ inverse
        inner = 15 * one - product @ (7 * one - product)
        inverse = inverse @ (13 * one - product @ inner) / 4
    return inverse
