"""What torch's own counter lacks: floating-point operations of fused attention, quantized and
sparse products, and FFT.

Each formula takes an operator's arguments and its result (`out_val`) and returns floating-point
operations, two for each multiply-accumulate, in real numbers: a product of complex ones counts
four. Zeros of a sparse weight are not multiplied: what they would have cost goes to `Spared`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, out_val: Any = None,
              **__: Any) -> int:
    """Scores and mixing of scaled dot-product attention; masks spare nothing, as in the kernels of
    torch.
    """
    *lead, queries, width = query.shape
    return 2 * math.prod(lead) * queries * key.shape[-2] * (width + value.shape[-1])


def linear_by_result(inputs: Tensor, *_: Any, out_val: Any = None, **__: Any) -> int:
    """Every number of the result is a dot product as long as a row of the input: right however the
    weight is packed.
    """
    return 2 * out_val.numel() * inputs.shape[-1]


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, *_: Any,
                         out_val: Any = None, **__: Any) -> int:
    """The fast path of nn.MultiheadAttention: four linear layers and attention among all tokens."""
    batch, queries, _ = query.shape
    keys = key.shape[1]
    linear = (2 * queries + 2 * keys) * embed_dim**2
    return 2 * batch * (linear + 2 * queries * keys * embed_dim)


def encoder_layer(inputs: Tensor, embed_dim: int, *rest: Any, out_val: Any = None,
                  **__: Any) -> int:
    """The fast path of nn.TransformerEncoderLayer: attention, and an MLP, whose first weight is the
    15th argument.
    """
    mlp = 2 * embed_dim * rest[12].shape[0]
    return multi_head_attention(inputs, inputs, inputs, embed_dim) + 2 * inputs.shape[0] * inputs.shape[1] * mlp


def fast_fourier(inputs: Tensor, dims: list[int], *_: Any, out_val: Any = None, **__: Any) -> int:
    """The customary 5 n log2 n for a complex transform of n numbers, half of it where one side is
    real.
    """
    full = max(inputs, out_val, key=Tensor.numel)
    length = math.prod(full.shape[dim] for dim in dims)
    share = 1 if inputs.is_complex() and out_val.is_complex() else 0.5
    return round(share * 5 * full.numel() * math.log2(max(length, 1)))


class Spared:
    """Formulas of products that may have a sparse factor, and the operations that its zeros spared."""

    def __init__(self) -> None:
        self.flops = 0

    def product(self, left: Tensor, right: Tensor, *_: Any, out_val: Any = None, **__: Any) -> int:
        """A matrix product, of the stored numbers of a sparse factor only."""
        dense = 2 * left.shape[0] * left.shape[1] * right.shape[1]
        done = round(dense * _stored_share(left) * _stored_share(right))
        self.flops += dense - done
        return done

    def sum_and_product(self, _: Tensor, left: Tensor, right: Tensor, *rest: Any,
                        out_val: Any = None, **named: Any) -> int:
        """The same where the first argument is added to the product."""
        return self.product(left, right)

    def mapping(self) -> dict[Any, Callable[..., int]]:
        """For `FlopCounterMode(custom_mapping=)`: formula by operator."""
        formulas: dict[Any, Callable[..., int]] = {
            aten.mm: self.product, aten._sparse_mm: self.product,
            aten.addmm: self.sum_and_product, aten._sparse_addmm: self.sum_and_product,
            aten.dot: _dot, aten.mv: _dot, aten.addmv: _sum_and_dot, aten.addbmm: _sum_of_products,
            aten._scaled_dot_product_flash_attention_for_cpu: attention,
            aten._native_multi_head_attention: multi_head_attention,
            aten._transformer_encoder_layer_fwd: encoder_layer,
        }
        packed = ("_int_mm", "_weight_int8pack_mm", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu")
        # the last: torch 2.6
        formulas |= {getattr(aten, name): linear_by_result for name in packed if hasattr(aten, name)}
        formulas |= {getattr(torch.ops.quantized, name): linear_by_result
                     for name in ("linear", "linear_relu", "linear_dynamic", "linear_relu_dynamic", "linear_dynamic_fp16")}
        # what oneDNN's packed weights are multiplied by
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            formulas[torch.ops.mkldnn._linear_pointwise] = linear_by_result
        formulas |= dict.fromkeys((aten._fft_r2c, aten._fft_c2r, aten._fft_c2c), fast_fourier)
        # The overload beside the operator: fused attention is then not taken apart, and the same on
        # every device.
        formulas |= dict.fromkeys((aten.scaled_dot_product_attention, aten.scaled_dot_product_attention.default), attention)
        # real operations already
        own_units = dict.fromkeys((aten._fft_r2c, aten._fft_c2r, aten._fft_c2c))
        return {operator: _given_arguments(formula if operator in own_units else self._in_real(formula))
                for operator, formula in {**flop_registry, **formulas}.items()}

    def _in_real(self, formula: Callable[..., int]) -> Callable[..., int]:
        """The formula, and four times as much where numbers are complex: their product takes four
        real ones.
        """
        def counted(*arguments: Any, out_val: Any = None, **named: Any) -> int:
            spared = self.flops
            found = formula(*arguments, out_val=out_val, **named)
            times = 4 if any(isinstance(leaf, Tensor) and leaf.is_complex() for leaf in tree_leaves(out_val)) else 1
            self.flops = spared + times * (self.flops - spared)
            return times * found
        return counted


def _stored_share(factor: Tensor) -> float:
    if isinstance(factor, torch.sparse.SparseSemiStructuredTensor):     # two numbers of every four
        return 0.5
    if factor.layout == torch.strided:
        return 1.0
    values = factor._values() if factor.layout == torch.sparse_coo else factor.values()
    return values.numel() / factor.numel()


def _dot(left: Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel()


def _sum_and_dot(_: Tensor, matrix: Tensor, *__: Any, **___: Any) -> int:
    return 2 * matrix.numel()


def _sum_of_products(_: Tensor, left: Tensor, right: Tensor, *__: Any, **___: Any) -> int:
    return 2 * left.numel() * right.shape[-1]


def _given_arguments(formula: Callable[..., int]) -> Callable[..., int]:
    """Marked as torch's counter wants it, so that the formula gets the arguments and not only their
    shapes.
    """
    def marked(*arguments: Any, **named: Any) -> int:
        return formula(*arguments, **named)
    marked._get_raw = True      # type: ignore[attr-defined]
    return marked


# Parts of the names of operators that only norm, reduce, choose, move, make or convert numbers.
_MOVES = ("norm", "softmax", "logsumexp", "mean", "sum", "prod", "amin", "amax", "aminmax", "min", "max", "var", "std", "any",
          "all", "argmax", "argmin", "sort", "topk", "kthvalue", "gather", "scatter", "index", "select", "slice", "masked",
          "where", "nonzero", "unique", "take", "cat", "stack", "pad", "clone", "copy", "to_dense", "empty", "zeros", "ones",
          "full", "fill", "new_", "arange", "linspace", "eye", "rand", "normal", "uniform", "bernoulli", "dropout", "repeat",
          "roll", "flip", "embedding", "upsample", "grid_sampler", "pool", "shuffle", "im2col", "col2im", "unfold", "tril",
          "triu", "lift_fresh", "local_scalar_dense", "scalar_tensor", "unsafe_view", "bucketize", "searchsorted", "histc",
          "bincount", "equal", "glu", "quantize", "qparams", "resize", "device", "split", "hardswish", "divide", "strided")
_MULTIPLIES = ("mm", "mv", "linear", "conv", "attention", "einsum", "rnn", "lstm", "gru", "dist", "solve", "bilinear")


def may_multiply(operator: Any) -> bool:
    """Whether an operator without a formula may hide products: it is no view, no arithmetic number
    by number, no norm, reduction, choice, copy or creation of tensors.
    """
    if operator.is_view or torch.Tag.pointwise in operator.tags:
        return False
    name = operator._opname
    return any(word in name for word in _MULTIPLIES) or not any(word in name for word in _MOVES)
